/*
 * errors.h
 *	  The errors that keyrot raises: SQLSTATE, message, hint.
 */
#ifndef KEYROT_ERRORS_H
#define KEYROT_ERRORS_H

#include "base/compat.h"
#include "base/conditions.h"
#include "base/domain.h"
#include "crypto/crypto.h"
#include "crypto/seal.h"

/* Defines a function that reports this, with its name and parameters; and one that raises it. */
#define REPORT_FUNCTION(level, name, parameters, ...) \
	void \
	name parameters \
	{ \
		ereport(level, (__VA_ARGS__)); \
	} \
	extern int	no_such_variable
#define ERROR_FUNCTION(name, parameters, ...) REPORT_FUNCTION(ERROR, name, parameters, __VA_ARGS__)

/* Room for what is wrong with the master key, as a sentence and what to do about it. */
typedef struct KeyProblem
{
	bool		missing;		/* there is no key file */
	char		message[1400];
	char		hint[600];
} KeyProblem;

extern void problem_set(KeyProblem *problem, const char *hint, const char *format,...) pg_attribute_printf(3, 4);

KEYROT_NORETURN extern void error_missing(Parameter parameter);
KEYROT_NORETURN extern void error_malformed(Parameter parameter);
KEYROT_NORETURN extern void error_grace_too_long(void);
KEYROT_NORETURN extern void error_no_first_use(bool preloaded);
KEYROT_NORETURN extern void error_token_used(void);
KEYROT_NORETURN extern void error_token_superseded(void);
KEYROT_NORETURN extern void error_token_of_namesake(void);
KEYROT_NORETURN extern void error_same_secret(void);
KEYROT_NORETURN extern void error_foreign_position(void);
KEYROT_NORETURN extern void error_no_more_versions(CredentialKind kind, const char *identifier);
KEYROT_NORETURN extern void error_app_key_taken(Parameter parameter, const char *app_key);
KEYROT_NORETURN extern void error_zone_has_key(const char *zone_id);
KEYROT_NORETURN extern void error_gateway_exists(const char *zone_id, const char *gateway_id);
KEYROT_NORETURN extern void error_concurrent_update(void);
KEYROT_NORETURN extern void error_changed_by_command(void);
KEYROT_NORETURN extern void error_no_such(CredentialKind kind, const char *identifier);
KEYROT_NORETURN extern void error_no_such_gateway(const char *zone_id, const char *gateway_id);
KEYROT_NORETURN extern void error_no_such_owner(Oid role);
KEYROT_NORETURN extern void error_role_name(Oid role);
KEYROT_NORETURN extern void error_not_owner(CredentialKind kind, const char *identifier);
KEYROT_NORETURN extern void error_owner_changed(CredentialKind kind, const char *identifier);
KEYROT_NORETURN extern void error_not_member(const char *role_name);
KEYROT_NORETURN extern void error_superuser_only(const char *action);
KEYROT_NORETURN extern void error_restricted(const char *action);
KEYROT_NORETURN extern void error_connection_option(const char *setting);
KEYROT_NORETURN extern void error_servers_setting(const char *setting);
KEYROT_NORETURN extern void error_too_many_requests(const char *action, int per_second, int64 wait);
KEYROT_NORETURN extern void error_limit_table_full(const char *action, int64 wait);
KEYROT_NORETURN extern void error_unusable_key(const KeyProblem *problem);
KEYROT_NORETURN extern void error_disabled(CredentialKind kind, const char *identifier);
KEYROT_NORETURN extern void error_expired(CredentialKind kind, const char *identifier);
KEYROT_NORETURN extern void error_nothing_in_grace(CredentialKind kind, const char *identifier);
KEYROT_NORETURN extern void error_app_key_changed(const char *app_key);
KEYROT_NORETURN extern void error_does_not_open(CredentialKind kind, const char *identifier, int version);
KEYROT_NORETURN extern void error_crypto(CryptoStatus status);
KEYROT_NORETURN extern void error_not_installed(void);
KEYROT_NORETURN extern void error_column_changed(const char *table, const char *column);
KEYROT_NORETURN extern void error_not_written(const char *table);
KEYROT_NORETURN extern void error_rule(const char *table);
KEYROT_NORETURN extern void error_in_transaction(const char *procedure);
KEYROT_NORETURN extern void error_reseal_runs(void);
KEYROT_NORETURN extern void error_data_key_gone(int data_key);
KEYROT_NORETURN extern void error_no_choice(Parameter list);
KEYROT_NORETURN extern void error_several_choices(Parameter list);
KEYROT_NORETURN extern void error_not_of_owner(const char *action, const char *owner_name);
KEYROT_NORETURN extern void error_operator_only(const char *action);
KEYROT_NORETURN extern void error_no_citus(int version);
KEYROT_NORETURN extern void error_is_distributed(void);
KEYROT_NORETURN extern void error_is_not_distributed(const char *function);
KEYROT_NORETURN extern void error_cannot_distribute(const char *table, const char *obstacle);
KEYROT_NORETURN extern void error_awaits_first_use(void);
KEYROT_NORETURN extern void error_owner_unknown(CredentialKind kind, const char *identifier);
KEYROT_NORETURN extern void error_not_distributable(const char *what, const char *reason);
KEYROT_NORETURN extern void error_columns_of_view(void);

KEYROT_NORETURN extern void error_unknown_action(void);
KEYROT_NORETURN extern void error_unknown_version(const char *accepted);
KEYROT_NORETURN extern void error_unknown_parameter(const char *name, const char *known);
KEYROT_NORETURN extern void error_missing_app(void);
KEYROT_NORETURN extern void error_wrong_type(Parameter parameter);
KEYROT_NORETURN extern void error_may_not_call(const char *function);
KEYROT_NORETURN extern void error_other_app(void);
KEYROT_NORETURN extern void error_no_such_app_id(int64 app_id);
KEYROT_NORETURN extern void error_not_owner_of_app_id(int64 app_id);

#endif
