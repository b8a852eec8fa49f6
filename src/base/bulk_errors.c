/*
 * bulk_errors.c
 *	  The errors of bulk rotation; all others are in errors.c.
 */
#include "base/errors.h"

/* Neither an owner, nor all_owners, nor a list was given. "list" is the parameter for the list. */
void
error_no_choice(Parameter list)
{
	ereport(ERROR,
			(conditions_errcode(CONDITION_MISSING, PARAM_OWNER),
			 errmsg("one of owner, all_owners and %s must be specified", conditions_parameter(list))));
}

/* More than one of them was given. */
void
error_several_choices(Parameter list)
{
	ereport(ERROR,
			(conditions_errcode(CONDITION_MALFORMED, PARAM_OWNER),
			 errmsg("only one of owner, all_owners and %s can be specified", conditions_parameter(list))));
}

/* The caller is not an operator, and gave all_owners. */
void
error_operator_only(const char *action)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for %s of all owners", action),
			 errhint("Only superusers, and roles with the privileges of keyrot.operator_role, may use all_owners.")));
}
