/*
 * errors.h
 *	  What can go wrong, as PostgreSQL errors: SQLSTATE, sentence, hint.
 */
#ifndef KEYROT_ERRORS_H
#define KEYROT_ERRORS_H

#include "compat.h"
#include "crypto.h"
#include "seal.h"

typedef enum Parameter
{
	PARAM_APP_ID,
	PARAM_APP_NAME,
	PARAM_APP_KEY,
	PARAM_NEW_APP_KEY,
	PARAM_APP_SECRET,
	PARAM_NEW_APP_SECRET,
	PARAM_DESCRIPTION,
	PARAM_ZONE_ID,
	PARAM_SECRET_KEY,
	PARAM_GATEWAY_ID,
	PARAM_GRACE_PERIOD,
	PARAM_GRACE_SECONDS,		/* as api() takes it */
	PARAM_CLIENT_TOKEN,
	PARAM_OWNER,
	PARAM_PAGE_NUMBER,
	PARAM_PAGE_SIZE,
	PARAM_BOUNDED_PAGE_SIZE,	/* as api() takes it */
	PARAM_ALGORITHM,
	PARAM_MESSAGE,
	PARAM_STRING_TO_SIGN,
	PARAM_PARAMS
} Parameter;

/* Room for what is wrong with the master key, as a sentence and what to do about it. */
typedef struct KeyProblem
{
	bool		missing;		/* there is no key file at all */
	char		message[1400];
	char		hint[600];
} KeyProblem;

KEYROT_NORETURN extern void error_missing(Parameter parameter);
KEYROT_NORETURN extern void error_malformed(Parameter parameter);
KEYROT_NORETURN extern void error_grace_too_long(void);
KEYROT_NORETURN extern void error_token_used(void);
KEYROT_NORETURN extern void error_token_superseded(void);
KEYROT_NORETURN extern void error_same_secret(Parameter parameter);
KEYROT_NORETURN extern void error_app_key_taken(Parameter parameter, const char *app_key);
KEYROT_NORETURN extern void error_zone_has_key(const char *zone_id);
KEYROT_NORETURN extern void error_gateway_exists(const char *zone_id, const char *gateway_id);
KEYROT_NORETURN extern void error_concurrent_update(void);
KEYROT_NORETURN extern void error_changed_by_command(void);
KEYROT_NORETURN extern void error_no_such(SealKind kind, const char *identifier);
KEYROT_NORETURN extern void error_no_such_gateway(const char *zone_id, const char *gateway_id);
KEYROT_NORETURN extern void error_no_such_owner(Oid role);
KEYROT_NORETURN extern void error_not_owner(SealKind kind, const char *identifier);
KEYROT_NORETURN extern void error_owner_changed(SealKind kind, const char *identifier);
KEYROT_NORETURN extern void error_not_member(const char *role_name);
KEYROT_NORETURN extern void error_superuser_only(const char *action);
KEYROT_NORETURN extern void error_restricted(const char *action);
KEYROT_NORETURN extern void error_connection_option(const char *setting);
KEYROT_NORETURN extern void error_too_many_requests(const char *action, int per_second, int64 wait);
KEYROT_NORETURN extern void error_limit_table_full(const char *action, int64 wait);
KEYROT_NORETURN extern void error_unusable_key(const KeyProblem *problem);
KEYROT_NORETURN extern void error_does_not_open(SealKind kind, const char *identifier, int version);
KEYROT_NORETURN extern void error_crypto(CryptoStatus status);
KEYROT_NORETURN extern void error_not_installed(void);

KEYROT_NORETURN extern void error_unknown_action(void);
KEYROT_NORETURN extern void error_unknown_version(const char *accepted);
KEYROT_NORETURN extern void error_unknown_parameter(const char *known);
KEYROT_NORETURN extern void error_missing_app(void);
KEYROT_NORETURN extern void error_wrong_type(Parameter parameter);
KEYROT_NORETURN extern void error_may_not_call(const char *function);
KEYROT_NORETURN extern void error_other_app(void);
KEYROT_NORETURN extern void error_no_such_app_id(int64 app_id);
KEYROT_NORETURN extern void error_not_owner_of_app_id(int64 app_id);

/* The same errors in the two clouds' words, for whoever caught one. */
extern void errors_begin(void);
extern const char *errors_parameter_name(Parameter parameter);
extern bool errors_must_be_raised(const ErrorData *error);
extern char *errors_message(const ErrorData *error);
extern char *errors_alibaba_code(const ErrorData *error, int *http_status);
extern const char *errors_tencent_code(const ErrorData *error);

#endif
