/*
 * argument.h
 *	  The arguments of SQL functions, checked for their form.
 */
#ifndef KEYROT_ARGUMENT_H
#define KEYROT_ARGUMENT_H

#include "base/compat.h"

#include "base/errors.h"
#include "crypto/identifier.h"
#include "crypto/secret.h"

/* Bytes of an argument; detoasted where need be, and then owned by the current memory context. */
typedef struct Bytes
{
	const char *bytes;
	size_t		length;
} Bytes;

/* Whether a text can be an identifier. */
typedef bool (*IdentifierForm) (const char *text, size_t length);

extern Bytes argument_bytes(FunctionCallInfo fcinfo, int position);
extern void argument_require(FunctionCallInfo fcinfo, int position, Parameter parameter);
extern bool argument_copy_identifier(FunctionCallInfo fcinfo, int position, IdentifierForm form, char *identifier);
extern void argument_target(FunctionCallInfo fcinfo, CredentialKind kind, char identifier[SEAL_MAX_IDENTIFIER + 1]);
extern void argument_app_key(FunctionCallInfo fcinfo, int position, Parameter parameter,
							 char app_key[APP_KEY_MAX + 1]);
extern void argument_optional_app_key(FunctionCallInfo fcinfo, int position, Parameter parameter,
									  char app_key[APP_KEY_MAX + 1]);
extern void argument_zone_id(FunctionCallInfo fcinfo, int position, char zone_id[ZONE_ID_MAX + 1]);
extern void argument_gateway_id(FunctionCallInfo fcinfo, int position, char gateway_id[ZONE_ID_MAX + 1]);
extern void argument_client_token(FunctionCallInfo fcinfo, int position, char client_token[CLIENT_TOKEN_MAX + 1]);
extern void argument_app_secret(FunctionCallInfo fcinfo, int position, Parameter parameter, Secret *secret);
extern void argument_secret_key(FunctionCallInfo fcinfo, int position, Secret *secret);
extern void argument_any_secret(FunctionCallInfo fcinfo, int position, Secret *app_secret, Secret *secret_key);
extern NullableDatum argument_app_name(FunctionCallInfo fcinfo, int position);
extern NullableDatum argument_description(FunctionCallInfo fcinfo, int position);
extern int64 argument_grace(FunctionCallInfo fcinfo, int position);
extern bool argument_from_first_use(FunctionCallInfo fcinfo, int position);
extern void argument_optional_period(FunctionCallInfo fcinfo, int position, Parameter parameter, Interval *period);
extern int64 argument_age(FunctionCallInfo fcinfo, int position, Parameter parameter);
extern Oid	argument_owner(FunctionCallInfo fcinfo, int position, const char **name);
extern bool argument_boolean(FunctionCallInfo fcinfo, int position, Parameter parameter);
extern int	argument_positive(FunctionCallInfo fcinfo, int position, Parameter parameter);
extern int	argument_batch_size(FunctionCallInfo fcinfo, int position);
extern char **argument_identifiers(FunctionCallInfo fcinfo, int position, CredentialKind kind, int *count);
extern CryptoHash argument_algorithm(FunctionCallInfo fcinfo, int position);

#endif
