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

/* A request under way.  It lives as long as its function's call; its secrets are wiped at the end. */
typedef struct Request
{
	FunctionCallInfo fcinfo;
	const char *action;
	pg_uuid_t	id;
	TimestampTz started_at;
	Oid			caller;
	char		target[SEAL_MAX_IDENTIFIER + 1];	/* empty until it is known to be well formed */
	int32		version;		/* the one made; 0: none */
	CryptoDraw	draw;
	Secret		secret;			/* given by the caller, made, or read */
	Secret		current;		/* what a given secret is compared with */
} Request;

typedef Datum (*RequestBody) (Request *request);

extern Datum request_run(FunctionCallInfo fcinfo, const char *action, RequestBody body);

#endif
