/*
 * distribution.c
 *	  keyrot's tables spread over a Citus cluster, and what only such an installation needs.
 */
#include "base/compat.h"

#include "catalog/namespace.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "core/request.h"
#include "core/rights.h"
#include "keys/keyring.h"
#include "store/distributed_views.h"
#include "store/distribution.h"
#include "store/tables.h"
#include "base/errors.h"

PG_FUNCTION_INFO_V1(keyrot_distribute);
PG_FUNCTION_INFO_V1(keyrot_read_distributed);
PG_FUNCTION_INFO_V1(keyrot_node_problem);

#define OLDEST_CITUS 12
#define MAX_SHARDS 64000

/* Raises an error if the tables are already distributed, or cannot be. */
static void
require_distributable(void)
{
	int			version = distribution_citus_version();
	const char *table;
	const char *obstacle;

	if (version < OLDEST_CITUS)
		error_no_citus(version);
	if (tables_are_distributed())
		error_is_distributed();
	obstacle = distribution_obstacle(&table);
	if (obstacle != NULL)
		error_cannot_distribute(table, obstacle);
	if (distribution_awaits_first_use())
		error_awaits_first_use();
}

/* distribute(shard_count) */
Datum
keyrot_distribute(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		error_missing(PARAM_SHARD_COUNT);
	if (PG_GETARG_INT32(0) < 1 || PG_GETARG_INT32(0) > MAX_SHARDS)
		error_malformed(PARAM_SHARD_COUNT);
	request_require_writable("distribute");
	if (!superuser())
		error_superuser_only("distribute");
	tables_lock_access_share();
	require_distributable();
	distribution_spread(PG_GETARG_INT32(0));
	distributed_views_define();
	PG_RETURN_VOID();
}

/*
 * Raises an error unless the function is called as by a view that the caller may read, because anyone can call it: where
 * the tables are not distributed, owners count by OID, too, and the views see to that.
 */
static void
require_view(const char *view)
{
	AclResult	result;

	if (!tables_are_distributed())
		error_is_not_distributed("read_distributed");
	if (!distributed_views_has(view))
		error_malformed(PARAM_VIEW);
	result = pg_class_aclcheck(get_relname_relid(view, get_namespace_oid("keyrot", false)), GetUserId(), ACL_SELECT);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_VIEW, view);
}

/* read_distributed(view), for the views */
Datum
keyrot_read_distributed(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *view = text_to_cstring(PG_GETARG_TEXT_PP(0));

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	tables_lock_access_share();
	require_view(view);
	distributed_views_read(view, GetUserId(), rights_is_operator(GetUserId()), result->setDesc, result->setResult);
	return (Datum) 0;
}

/* node_problem(): what is wrong with this node's keys; NULL: nothing */
Datum
keyrot_node_problem(PG_FUNCTION_ARGS)
{
	KeyringStatus status;

	tables_lock_access_share();
	keyring_examine(&status);
	if (!status.has_problem)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(status.problem.message));
}
