/*
 * request.h
 *	  The life of a request: id, caller, rights, error context, record.
 */
#ifndef KEYROT_REQUEST_H
#define KEYROT_REQUEST_H

#include "compat.h"

#include "utils/uuid.h"

#include "secret.h"
#include "rows.h"

/*
 * A request under way.  It lives as long as its function's call; the secrets in it are wiped at the end,
 * and so is result_text, which holds one in the memory context of the call.
 */
typedef struct Request
{
	FunctionCallInfo fcinfo;
	const char *action;
	pg_uuid_t	id;
	TimestampTz started_at;
	Oid			caller;
	char		target[SEAL_MAX_IDENTIFIER + 1];	/* empty until it is known to be well formed */
	int32		version;		/* the one made; 0: none */
	Credential	credential;		/* the one that the request is about */
	char		gateway_id[ZONE_ID_MAX + 1];	/* likewise */
	int64		rows;			/* how many were changed, where that is the answer */
	CryptoDraw	draw;
	Secret		secret;			/* given by the caller, made, or read */
	Secret		current;		/* what a given secret is compared with */
	text	   *result_text;
} Request;

/* What a request does; and, once that is recorded, what it answers. */
typedef void (*RequestBody) (Request *request);
typedef Datum (*RequestAnswer) (Request *request);

extern Datum request_run(FunctionCallInfo fcinfo, const char *action, RequestBody body, RequestAnswer answer);

#endif
