/*
 * rights.c
 *	  Decides whose credentials a role may act on, and which of keyrot's functions it may call; raises
 *	  nothing.
 *
 * An owner is a role by OID and name.  With the OID alone, credentials would pass to whichever role has it
 * after a restore; with the name alone, to a new role with the name of a dropped one.  In a Citus cluster the
 * name alone counts, since a role's OID is another on each node.
 */
#include "core/rights.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/catcache.h"
#include "utils/syscache.h"

#include "store/tables.h"
#include "base/settings.h"

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

/*
 * Whether the caller may act on the credentials of this owner, identified by OID and name, or by name alone where the
 * tables are distributed.
 */
RightsVerdict
rights_over(Oid caller, Oid owner, const char *owner_name)
{
	bool		by_name;

	if (rights_is_operator(caller))
		return RIGHTS_GRANTED;
	by_name = tables_are_distributed();
	if (by_name)
		owner = get_role_oid(owner_name, true);
	if (by_name ? !OidIsValid(owner) : !is_still_named(owner, owner_name))
		return RIGHTS_OWNER_CHANGED;
	return has_privs_of_role(caller, owner) ? RIGHTS_GRANTED : RIGHTS_NOT_OWNER;
}

/* The extension's own function of this name, of which it has one; InvalidOid where it has none. */
static Oid
member_function(const char *name)
{
	Oid			extension = get_extension_oid("keyrot", true);
	Oid			schema = get_namespace_oid("keyrot", true);
	CatCList   *candidates = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	Oid			found = InvalidOid;

	for (int i = 0; i < candidates->n_members; i++)
	{
		Form_pg_proc candidate = (Form_pg_proc) GETSTRUCT(&candidates->members[i]->tuple);

		if (candidate->pronamespace == schema && OidIsValid(extension) &&
			getExtensionOfObject(ProcedureRelationId, candidate->oid) == extension)
			found = candidate->oid;
	}
	ReleaseCatCacheList(candidates);
	return found;
}

/* Whether a role has EXECUTE on one of the extension's functions, which is the right to its action. */
bool
rights_may_call(Oid caller, const char *function)
{
	Oid			oid = member_function(function);

	return OidIsValid(oid) && KEYROT_MAY_EXECUTE(oid, caller);
}
