/*
 * rights.c
 *	  Decides whose credentials a role may act on; raises nothing.
 *
 * An owner is a role by OID and name.  An OID alone would hand credentials to whichever role gets it
 * after a restore, a name alone to whoever is given a dropped role's name.
 */
#include "rights.h"

#include "miscadmin.h"
#include "utils/acl.h"

#include "settings.h"

/* Superusers, and roles with the rights of keyrot.operator_role, act on every credential. */
bool
rights_is_operator(Oid caller)
{
	Oid			operator_role;

	if (superuser_arg(caller))
		return true;
	if (keyrot_operator_role[0] == '\0')
		return false;
	operator_role = get_role_oid(keyrot_operator_role, true);
	return OidIsValid(operator_role) && has_privs_of_role(caller, operator_role);
}

static bool
is_still_named(Oid role, const char *name)
{
	char	   *current = GetUserNameFromId(role, true);
	bool		same = current != NULL && strcmp(current, name) == 0;

	if (current != NULL)
		pfree(current);
	return same;
}

/* Whether the caller may act on what this owner, known by OID and name, has. */
RightsVerdict
rights_over(Oid caller, Oid owner, const char *owner_name)
{
	if (rights_is_operator(caller))
		return RIGHTS_GRANTED;
	if (!is_still_named(owner, owner_name))
		return RIGHTS_OWNER_CHANGED;
	return has_privs_of_role(caller, owner) ? RIGHTS_GRANTED : RIGHTS_NOT_OWNER;
}
