/*
 * retry_statements.h
 *	  The statements on what client_tokens were used for.
 */
#ifndef KEYROT_RETRY_STATEMENTS_H
#define KEYROT_RETRY_STATEMENTS_H

#include "base/compat.h"

#include "utils/uuid.h"

#include "store/rows.h"

/* What a client_token was used for. */
typedef struct TokenRow
{
	LoggedRole	caller;
	char		client_token[CLIENT_TOKEN_MAX + 1];
	pg_uuid_t	request_id;
	char		action[NAMEDATALEN];
	char		target[SEAL_MAX_IDENTIFIER + 1];
	char		new_app_key[APP_KEY_MAX + 1];	/* empty: none */
	int64		grace;			/* microseconds */
	bool		from_first_use; /* when it begins; else with the rotation */
	bool		secret_given;
	int32		version;		/* the one made */
	TimestampTz created_at;
} TokenRow;

extern bool retry_statements_reserve(const TokenRow *token);
extern bool retry_statements_find(const char *caller, const char *client_token, TokenRow *token);
extern void retry_statements_finish(const char *caller, const char *client_token, int32 version);
extern int64 retry_statements_rebind(void);
extern void retry_statements_prune(TimestampTz before);

#endif
