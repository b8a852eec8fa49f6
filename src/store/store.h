/*
 * store.h
 *	  Every SQL statement of keyrot, one function each.
 */
#ifndef KEYROT_STORE_H
#define KEYROT_STORE_H

#include "base/compat.h"

#include "fmgr.h"

#include "utils/uuid.h"

#include "store/rows.h"

/* What a client_token was used for. */
typedef struct TokenRow
{
	Oid			caller;
	char		client_token[CLIENT_TOKEN_MAX + 1];
	pg_uuid_t	request_id;
	char		action[NAMEDATALEN];
	char		target[SEAL_MAX_IDENTIFIER + 1];
	char		new_app_key[APP_KEY_MAX + 1];	/* empty: none */
	int64		grace;			/* microseconds */
	bool		secret_given;
	int32		version;		/* the one made */
	TimestampTz created_at;
} TokenRow;

/* What list_apps is asked for. */
typedef struct AppFilter
{
	NullableDatum app_id;
	const char *app_key;		/* empty: any */
	NullableDatum app_name;
	Oid			caller;
	bool		sees_all;
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
	APP_LISTING_COLUMNS
};
typedef void (*AppListingReader) (const Datum *values, const bool *nulls, void *reader_state);

extern void store_set_owner(const Credential *credential, Oid owner, const char *owner_name);
extern int64 store_rebind_owners(void);

extern bool store_reserve_token(const TokenRow *token);
extern bool store_find_token(Oid caller, const char *client_token, TokenRow *token);
extern void store_finish_token(Oid caller, const char *client_token, int32 version);

extern bool store_insert_app(Credential *app, Datum app_name, NullableDatum description);
extern bool store_insert_successor(const Credential *app, const char *predecessor);
extern void store_modify_app(const char *app_key, NullableDatum app_name, NullableDatum description);
extern bool store_find_app(int64 app_id, Credential *app);
extern void store_list_apps(const AppFilter *filter, AppListingReader reader, void *reader_state);
extern int64 store_count_apps(const AppFilter *filter);

extern bool store_insert_zone(const Credential *zone);
extern void store_revive_zone(const Credential *zone);
extern bool store_insert_gateway(const char *zone_id, const char *gateway_id, TimestampTz added_at);
extern bool store_delete_gateway(const char *zone_id, const char *gateway_id);
extern void store_delete_gateways(const char *zone_id);

extern void store_record_request(const RequestRow *row);
extern int64 store_prune_requests(const pg_uuid_t *before);
extern void store_prune_tokens(TimestampTz before);
extern void store_wipe_expired(SealKind kind, BlockNumber first, BlockNumber next, TimestampTz now);
extern TimestampTz store_next_expiry(SealKind kind, BlockNumber first, BlockNumber next);

#endif
