/*
 * compat.h
 *	  What differs between PostgreSQL 15 and 18, and nothing else.  No other file looks at PG_VERSION_NUM.
 */
#ifndef KEYROT_COMPAT_H
#define KEYROT_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "keyrot needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "datatype/timestamp.h"
#include "fmgr.h"

/* Infinite intervals came with PostgreSQL 17. */
#if PG_VERSION_NUM >= 170000
#define KEYROT_INTERVAL_IS_INFINITE(interval) INTERVAL_NOT_FINITE(interval)
#else
#define KEYROT_INTERVAL_IS_INFINITE(interval) false
#endif

/* Since PostgreSQL 16 an update may concern summarizing indexes alone; needs access/tableam.h and executor/executor.h. */
#if PG_VERSION_NUM >= 160000
#define KEYROT_UPDATED_INDEXES TU_UpdateIndexes
#define KEYROT_UPDATES_INDEXES(indexes) ((indexes) != TU_None)
#define KEYROT_ONLY_SUMMARIZING(indexes) ((indexes) == TU_Summarizing)
#define KEYROT_INSERT_INDEX_TUPLES(target, row, estate, is_update, only_summarizing) \
	ExecInsertIndexTuples(target, row, estate, is_update, false, NULL, NIL, only_summarizing)
#else
#define KEYROT_UPDATED_INDEXES bool
#define KEYROT_UPDATES_INDEXES(indexes) (indexes)
#define KEYROT_ONLY_SUMMARIZING(indexes) false
#define KEYROT_INSERT_INDEX_TUPLES(target, row, estate, is_update, only_summarizing) \
	((void) (only_summarizing), ExecInsertIndexTuples(target, row, estate, is_update, false, NULL, NIL))
#endif

/* All settings, in an array that is not the caller's; PostgreSQL 16 changed how their number is told. */
#if PG_VERSION_NUM >= 160000
#define KEYROT_GUC_VARIABLES(count) get_guc_variables(count)
#else
#define KEYROT_GUC_VARIABLES(count) (*(count) = GetNumConfigOptions(), get_guc_variables())
#endif

/* PostgreSQL 16 made one of the many that check rights (utils/acl.h), and renamed another (utils/backend_status.h). */
#if PG_VERSION_NUM >= 160000
#define KEYROT_BACKEND_STATUS(index) pgstat_get_local_beentry_by_index(index)
#define KEYROT_MAY_EXECUTE(function, role) \
	(object_aclcheck(ProcedureRelationId, (function), (role), ACL_EXECUTE) == ACLCHECK_OK)
#else
#define KEYROT_BACKEND_STATUS(index) pgstat_fetch_stat_local_beentry(index)
#define KEYROT_MAY_EXECUTE(function, role) \
	(pg_proc_aclcheck((function), (role), ACL_EXECUTE) == ACLCHECK_OK)
#endif

/* PostgreSQL 16 lets the callbacks of its JSON parser fail (common/jsonapi.h). */
#if PG_VERSION_NUM >= 160000
#define KEYROT_JSON_RESULT	JsonParseErrorType
#define KEYROT_JSON_GO_ON	return JSON_SUCCESS
#else
#define KEYROT_JSON_RESULT	void
#define KEYROT_JSON_GO_ON	return
#endif

/* PostgreSQL 17 lets callers bring a lexer (common/jsonapi.h), and names waits: "known" is one (utils/wait_event.h). */
#if PG_VERSION_NUM >= 170000
#define KEYROT_JSON_LEXER(text, length, encoding) \
	makeJsonLexContextCstringLen(NULL, (text), (length), (encoding), true)
#define KEYROT_WAIT_EVENT(known, name) (*(known) != 0 ? *(known) : (*(known) = WaitEventExtensionNew(name)))
#else
#define KEYROT_JSON_LEXER(text, length, encoding) \
	makeJsonLexContextCstringLen((text), (int) (length), (encoding), true)
#define KEYROT_WAIT_EVENT(known, name) (*(known) = PG_WAIT_EXTENSION)
#endif

/*
 * PostgreSQL 18 renamed its attribute and moved it in front, took the executor's word for how often it runs away from
 * its caller, counts what scans of an index do (access/genam.h), and lets a module tell its name and version.
 */
#if PG_VERSION_NUM >= 180000
#define KEYROT_NORETURN pg_noreturn
#define KEYROT_RUN_PARAMETERS	QueryDesc *query, ScanDirection direction, uint64 count
#define KEYROT_RUN_ARGUMENTS	query, direction, count
#define KEYROT_BEGIN_INDEX_SCAN(table, index, snapshot, keys) index_beginscan(table, index, snapshot, NULL, keys, 0)
#define KEYROT_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "keyrot", .version = KEYROT_VERSION)
#else
#define KEYROT_NORETURN pg_attribute_noreturn()
#define KEYROT_RUN_PARAMETERS	QueryDesc *query, ScanDirection direction, uint64 count, bool execute_once
#define KEYROT_RUN_ARGUMENTS	query, direction, count, execute_once
#define KEYROT_BEGIN_INDEX_SCAN(table, index, snapshot, keys) index_beginscan(table, index, snapshot, keys, 0)
#define KEYROT_MODULE_MAGIC PG_MODULE_MAGIC
#endif

#endif
