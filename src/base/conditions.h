/*
 * conditions.h
 *	  The subjects of errors: the parameter, the condition, and its names in the two clouds.
 */
#ifndef KEYROT_CONDITIONS_H
#define KEYROT_CONDITIONS_H

#include "base/compat.h"

typedef enum Parameter
{
#define PARAMETER(id, name, api_name, accepted) id,
#include "base/parameter_list.h"
#undef PARAMETER
} Parameter;

/*
 * What the contract's table of errors tells apart: the SQLSTATE, and what the two clouds call it.  In
 * Alibaba's codes %s is the parameter; Tencent's failures all have status 200.
 */
typedef enum Condition
{
	CONDITION_UNEXPECTED,		/* whatever no row below is about */
	CONDITION_MISSING,
	CONDITION_MALFORMED,
	CONDITION_WRONG_TYPE,
	CONDITION_UNKNOWN_PARAMETER,
	CONDITION_TAKEN,
	CONDITION_NO_SUCH,
	CONDITION_TOKEN_MISMATCH,
	CONDITION_UNKNOWN_ACTION,
	CONDITION_UNKNOWN_VERSION,
	CONDITION_NOT_ALLOWED,
	CONDITION_TOO_MANY,
	CONDITION_LOCKED,
	CONDITION_NOT_SERIALIZABLE,
	CONDITION_DEADLOCK
} Condition;

/* For errors.c, which raises them. */
extern const char *conditions_parameter(Parameter parameter);
extern const char *conditions_accepted(Parameter parameter);
extern int	conditions_errcode(Condition condition, Parameter parameter);

/* The same errors in the two clouds' words, for whoever caught one. */
extern void conditions_begin(void);
extern const char *conditions_parameter_name(Parameter parameter);
extern bool conditions_must_be_raised(const ErrorData *error);
extern char *conditions_message(const ErrorData *error);
extern char *conditions_alibaba_code(const ErrorData *error, int *http_status);
extern const char *conditions_tencent_code(const ErrorData *error);

#endif
