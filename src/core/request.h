/*
 * request.h
 *	  The life of a request: id, caller, rights, error context, record.
 */
#ifndef KEYROT_REQUEST_H
#define KEYROT_REQUEST_H

#include "base/compat.h"

#include "utils/uuid.h"

#include "core/arguments.h"
#include "store/records.h"
#include "crypto/secret.h"

/* Which limits and which vocabulary a request belongs to. */
typedef enum RequestFamily
{
	REQUEST_OF_APPS,
	REQUEST_OF_ZONES,
	REQUEST_OF_ADMINISTRATION,
	REQUEST_OF_MANY				/* each credential's rotation is on record for itself; not limited */
} RequestFamily;

/*
 * A request under way.  It lives as long as its function's call; the secrets in it are wiped at the end,
 * and so is result_text, which holds one in the memory context of the call.
 */
typedef struct Request
{
	const struct Action *action;
	FunctionCallInfo fcinfo;
	pg_uuid_t	id;
	pg_uuid_t	retry_of;		/* the request that this one repeats */
	bool		is_repetition;
	TimestampTz started_at;
	Oid			caller;
	LoggedRole	logged_caller;	/* the caller and the role that logged in, as the log knows them */
	LoggedRole	logged_session_user;
	Oid			misnamed;		/* the one of them whose name is not valid in this database; InvalidOid: neither */
	struct Request *outer;		/* the request that this one runs inside, if any */
	int			sqlstate;		/* of what was last reported while it ran */
	char		target[SEAL_MAX_IDENTIFIER + 1];	/* empty until it is known to be well formed */
	Arguments	arguments;
	Credential	credential;		/* the one that the request is about */
	int32		version;		/* the one made; 0: none */
	CredentialKind changed;		/* what verification answers otherwise of; 0: nothing */
	bool		rotated;
	int64		rows;			/* how many were changed, where that is the answer */
	CryptoDraw	draw;
	Secret		secret;			/* given by the caller, made, or read */
	bool		secret_made;
	Secret		current;		/* what a given secret is compared with */
	text	   *result_text;
	bool		disclosed;		/* a secret is in the answer */
} Request;

/*
 * What an SQL function does, in its order: reads its arguments and checks their form; acts, and may fail;
 * and, once that is recorded, answers.
 */
typedef struct Action
{
	const char *name;			/* the function's */
	RequestFamily family;
	void		(*read) (Request *request); /* NULL: it has nothing to read */
	void		(*act) (Request *request);
	Datum		(*answer) (Request *request);	/* NULL: nothing, or rows that are in the result set */
} Action;

/* Answers a request that failed, instead of raising its error. */
typedef Datum (*Refusal) (Request *request, const ErrorData *error);

extern void request_init(void);
extern int64 request_unix_time(TimestampTz time);
extern void request_require_writable(const char *function);
extern void request_give_id(Request *request, pg_uuid_t *id);
extern void request_forget_version(Request *request);
extern void request_make_row(const Request *request, const char *outcome, RequestRow *row);
extern Datum request_run_answering(FunctionCallInfo fcinfo, const Action *action, Refusal refuse);

static inline Datum
request_run(FunctionCallInfo fcinfo, const Action *action)
{
	return request_run_answering(fcinfo, action, NULL);
}

#endif
