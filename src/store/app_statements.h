/*
 * app_statements.h
 *	  The statements on apps.
 */
#ifndef KEYROT_APP_STATEMENTS_H
#define KEYROT_APP_STATEMENTS_H

#include "base/compat.h"

#include "store/rows.h"

/* The filter of list_apps. */
typedef struct AppFilter
{
	NullableDatum app_id;
	const char *app_key;		/* empty: any */
	NullableDatum app_name;
	Oid			caller;
	bool		sees_all;
	bool		newest_first;
	int64		offset;
	int32		limit;
} AppFilter;

/* Columns of one row of list_apps. */
enum
{
	LISTED_APP_ID,
	LISTED_APP_KEY,
	LISTED_APP_NAME,
	LISTED_DESCRIPTION,
	LISTED_CREATED_AT,
	LISTED_MODIFIED_AT,
	LISTED_TOTAL_COUNT,
	LISTED_DISABLED,
	APP_LISTING_COLUMNS
};
typedef void (*AppListingReader) (const Datum *values, const bool *nulls, void *reader_state);

extern bool app_statements_insert(Credential *app, Datum app_name, NullableDatum description);
extern bool app_statements_insert_successor(const Credential *app, const char *predecessor);
extern void app_statements_modify(const char *app_key, NullableDatum app_name, NullableDatum description);
extern bool app_statements_find(int64 app_id, Credential *app);
extern void app_statements_list(const AppFilter *filter, AppListingReader reader, void *reader_state);
extern int64 app_statements_count(const AppFilter *filter);

#endif
