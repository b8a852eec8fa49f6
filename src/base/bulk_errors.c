/*
 * bulk_errors.c
 *	  The errors of bulk rotation, beside those of errors.c.
 */
#include "base/errors.h"

/* It was not said which credentials are meant; the list is the parameter that names them one by one. */
void
error_no_choice(Parameter list)
{
	ereport(ERROR,
			(conditions_errcode(CONDITION_MISSING, PARAM_OWNER),
			 errmsg("one of owner, all_owners and %s must be given", conditions_parameter(list))));
}

/* It was said in more than one way. */
void
error_several_choices(Parameter list)
{
	ereport(ERROR,
			(conditions_errcode(CONDITION_MALFORMED, PARAM_OWNER),
			 errmsg("only one of owner, all_owners and %s can be given", conditions_parameter(list))));
}

/* Credentials of all owners are an operator's to act on. */
void
error_operator_only(const char *action)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for %s of all owners", action),
			 errhint("Roles with the rights of keyrot.operator_role, and superusers, may give all_owners.")));
}
