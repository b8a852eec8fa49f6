/*
 * api_read.h
 *	  A call of api(): what the table of actions says of it, and how it is read.
 */
#ifndef KEYROT_API_READ_H
#define KEYROT_API_READ_H

#include "functions/api_shape.h"
#include "core/request.h"
#include "base/errors.h"

#define API_MAX_PARAMETERS 8
#define API_MAX_ARGUMENTS 8
#define API_LARGEST_PAGE 100

/* How a value becomes an argument. */
typedef enum ValueKind
{
	VALUE_NONE,					/* the end of a list of parameters */
	VALUE_TEXT,
	VALUE_SECRET,				/* a text, whose copy is wiped */
	VALUE_APP_ID,				/* names the app: no argument of the function */
	VALUE_INT8,
	VALUE_INT4,
	VALUE_SECONDS,				/* becomes an interval */
	VALUE_GRACE_FROM,			/* a text; absent, it is that of the function's default */
	VALUE_ORDER,				/* becomes whether the newest comes first */
	VALUE_SWITCH				/* disables or enables: no argument of the function */
} ValueKind;

typedef enum Presence
{
	OPTIONAL,
	OPTIONAL_OR_EMPTY,			/* an empty text counts as absent */
	REQUIRED,
	NAMES_APP					/* one of those that have this is required */
} Presence;

typedef struct ApiParameter
{
	Parameter	parameter;
	ValueKind	kind;
	int			position;		/* of the function's argument */
	Presence	presence;
	int64		least;			/* of numbers: the range */
	int64		most;
	int64		otherwise;		/* where a number is absent */
} ApiParameter;

typedef struct ApiAction
{
	const char *name;
	const ApiShape *shape;
	const Action *action;
	ApiFields	fields;
	ApiParameter parameters[API_MAX_PARAMETERS];	/* and VALUE_NONE */
} ApiAction;

/* One of the apps that an answer lists. */
typedef struct ListedApp
{
	int64		app_id;
	Datum		app_name;
	NullableDatum description;
	TimestampTz created_at;
	TimestampTz modified_at;
	bool		disabled;
} ListedApp;

/* A call of api() under way; the request's action is its first member. */
typedef struct ApiCall
{
	Action		action;
	FunctionCallInfo fcinfo;	/* api()'s own */
	const ApiAction *row;		/* NULL: the action is not known */
	const ApiShape *shape;
	Jsonb	   *params;			/* NULL: none given */
	bool		params_copied;	/* params are a copy of ours */
	NullableDatum arguments[API_MAX_ARGUMENTS];	/* of the function */
	MemoryContext context;		/* that of the call */
	ListedApp	apps[API_LARGEST_PAGE];
	int			app_count;
	int64		total_count;
} ApiCall;

/* The call that a request of api() is. */
static inline ApiCall *
api_call_of(const Request *request)
{
	return (ApiCall *) request->action;
}

extern void api_read(Request *request);
extern void api_forget(ApiCall *call);

#endif
