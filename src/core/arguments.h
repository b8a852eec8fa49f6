/*
 * arguments.h
 *	  The arguments of a request.
 */
#ifndef KEYROT_ARGUMENTS_H
#define KEYROT_ARGUMENTS_H

#include "base/compat.h"

#include "store/app_statements.h"
#include "store/records.h"

/* Whether an app is to be disabled or enabled, beside what else is modified. */
typedef enum Switched
{
	NOT_SWITCHED,
	SWITCHED_ON,
	SWITCHED_OFF
} Switched;

/* What a request was asked, well formed; each action reads those that it has. */
typedef struct Arguments
{
	char		new_app_key[APP_KEY_MAX + 1];	/* empty: none */
	char		gateway_id[ZONE_ID_MAX + 1];	/* empty: none */
	NullableDatum app_name;
	NullableDatum description;
	Switched	switched;
	Policy		policy;
	int64		grace;			/* microseconds, as the next one */
	int64		age;
	bool		from_first_use; /* when the grace period begins; else with the rotation */
	char		client_token[CLIENT_TOKEN_MAX + 1]; /* empty: none */
	Oid			owner;
	const char *owner_name;
	int64		app_id;			/* 0: the app is not named by its number */
	AppFilter	filter;
	int			batch_size;
	NullableDatum max_age;		/* an int64, in microseconds */
	int			max_count;
	AppListingReader listed;	/* takes each app that the filter means */
} Arguments;

#endif
