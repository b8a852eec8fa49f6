/*
 * fragments.h
 *	  Pieces of SQL that several statements have in common.  For this room alone.
 */
#ifndef KEYROT_FRAGMENTS_H
#define KEYROT_FRAGMENTS_H

/* A role's name as text; raises 22021 if it is not valid in the database's encoding. */
#define VALID_NAME_OF(role) \
	"pg_catalog.convert_from(pg_catalog.convert_to(pg_catalog.text(" role ".rolname), " \
	"pg_catalog.getdatabaseencoding()), pg_catalog.getdatabaseencoding())"

/* Whether the role in this parameter has the privileges of a row's owner, identified by OID and name. */
#define MAY_ACT_FOR_OWNER(caller) \
	"(pg_catalog.pg_has_role(" caller ", owner, 'USAGE') AND EXISTS (SELECT FROM pg_catalog.pg_roles AS r" \
	" WHERE r.oid OPERATOR(pg_catalog.=) owner AND r.rolname OPERATOR(pg_catalog.=) owner_name))"

/* The same if the tables are distributed: the parameter is distribution_roles_of() that role. */
#define MAY_ACT_FOR_OWNER_NAME(roles) "owner_name OPERATOR(pg_catalog.=) ANY (" roles ")"

/* Whether two values, which may be NULL, are equal. */
#define SAME(one, other) \
	"coalesce(" one " OPERATOR(pg_catalog.=) " other ", " one " IS NULL AND " other " IS NULL)"

/* Whether a written row has the same version and secret as before. */
#define UNCHANGED(written, before) \
	written ".version OPERATOR(pg_catalog.=) " before ".version AND " SAME(written ".secret", before ".secret")

#endif
