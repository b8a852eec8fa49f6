/*
 * function.h
 *	  SQL functions as rows of a table: the name of each, and what it does.
 */
#ifndef KEYROT_FUNCTION_H
#define KEYROT_FUNCTION_H

#include "base/compat.h"

#include "funcapi.h"

#include "core/request.h"

/* The function keyrot.name, which returns this: an expression of fcinfo. */
#define SQL_FUNCTION(name, result) \
	PG_FUNCTION_INFO_V1(keyrot_##name); \
	Datum \
	keyrot_##name(PG_FUNCTION_ARGS) \
	{ \
		return (result); \
	} \
	extern int	no_such_variable

/* One that is a request, with its Action, name_action. */
#define REQUEST_FUNCTION(name, family, read, act, answer) \
	const Action name##_action = {#name, (family), (read), (act), (answer)}; \
	SQL_FUNCTION(name, request_run(fcinfo, &name##_action))

/* A request that answers with a set of rows, into which it puts them when it acts. */
#define ROWS_FUNCTION(name, family, read, act) \
	const Action name##_action = {#name, (family), (read), (act), NULL}; \
	SQL_FUNCTION(name, (InitMaterializedSRF(fcinfo, 0), request_run(fcinfo, &name##_action)))

/* Those that api() calls. */
extern const Action create_app_action;
extern const Action reset_app_secret_action;
extern const Action describe_app_security_action;
extern const Action modify_app_action;
extern const Action delete_app_action;
extern const Action list_apps_action;
extern const Action describe_app_action;
extern const Action list_nothing_action;
extern const Action create_zone_key_action;
extern const Action refresh_zone_key_action;
extern const Action modify_zone_key_action;
extern const Action describe_zone_key_action;

#endif
