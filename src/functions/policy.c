/*
 * policy.c
 *	  The SQL functions that disable and enable credentials, and that set when they are due and their
 *	  lifetimes.
 *
 * They are the same for apps and zones; the effects are implemented in credential.c and lifetime.c.
 */
#include "base/compat.h"

#include "utils/timestamp.h"

#include "core/argument.h"
#include "core/credential.h"
#include "core/lifetime.h"
#include "core/request.h"
#include "core/result.h"

PG_FUNCTION_INFO_V1(keyrot_disable_app);
PG_FUNCTION_INFO_V1(keyrot_enable_app);
PG_FUNCTION_INFO_V1(keyrot_disable_zone);
PG_FUNCTION_INFO_V1(keyrot_enable_zone);
PG_FUNCTION_INFO_V1(keyrot_set_app_policy);
PG_FUNCTION_INFO_V1(keyrot_set_zone_policy);

static void
read_app(Request *request)
{
	argument_app_key(request->fcinfo, 0, PARAM_APP_KEY, request->target);
}

static void
read_zone(Request *request)
{
	argument_zone_id(request->fcinfo, 0, request->target);
}

static void
lock_target(Request *request, CredentialKind kind)
{
	credential_lock(request->caller, kind, request->target, &request->credential);
}


static void
disable_app(Request *request)
{
	lock_target(request, CREDENTIAL_APP);
	credential_disable(request);
}

static void
enable_app(Request *request)
{
	lock_target(request, CREDENTIAL_APP);
	credential_enable(request);
}

static void
disable_zone(Request *request)
{
	lock_target(request, CREDENTIAL_ZONE);
	credential_disable(request);
}

static void
enable_zone(Request *request)
{
	lock_target(request, CREDENTIAL_ZONE);
	credential_enable(request);
}

/* disable_app(app_key) */
Datum
keyrot_disable_app(PG_FUNCTION_ARGS)
{
	static const Action action = {"disable_app", REQUEST_OF_APPS, read_app, disable_app, result_request_id};

	return request_run(fcinfo, &action);
}

/* enable_app(app_key) */
Datum
keyrot_enable_app(PG_FUNCTION_ARGS)
{
	static const Action action = {"enable_app", REQUEST_OF_APPS, read_app, enable_app, result_request_id};

	return request_run(fcinfo, &action);
}

/* disable_zone(zone_id) */
Datum
keyrot_disable_zone(PG_FUNCTION_ARGS)
{
	static const Action action = {"disable_zone", REQUEST_OF_ZONES, read_zone, disable_zone, result_request_id};

	return request_run(fcinfo, &action);
}

/* enable_zone(zone_id) */
Datum
keyrot_enable_zone(PG_FUNCTION_ARGS)
{
	static const Action action = {"enable_zone", REQUEST_OF_ZONES, read_zone, enable_zone, result_request_id};

	return request_run(fcinfo, &action);
}


/* The three parts of a policy, which follow the identifier. */
static void
read_policy(Request *request)
{
	Policy	   *policy = &request->arguments.policy;

	argument_optional_period(request->fcinfo, 1, PARAM_ROTATE_AFTER, &policy->rotate_after);
	argument_optional_period(request->fcinfo, 2, PARAM_LIFETIME, &policy->lifetime);
	policy->grace = argument_grace(request->fcinfo, 3);
}

static void
read_app_policy(Request *request)
{
	read_app(request);
	read_policy(request);
}

static void
read_zone_policy(Request *request)
{
	read_zone(request);
	read_policy(request);
}

static void
set_app_policy(Request *request)
{
	lock_target(request, CREDENTIAL_APP);
	credential_set_policy(request);
}

static void
set_zone_policy(Request *request)
{
	lock_target(request, CREDENTIAL_ZONE);
	credential_set_policy(request);
}

/* set_app_policy(app_key, rotate_after, lifetime, grace_period) */
Datum
keyrot_set_app_policy(PG_FUNCTION_ARGS)
{
	static const Action action = {
		"set_app_policy", REQUEST_OF_APPS, read_app_policy, set_app_policy, result_request_id
	};

	return request_run(fcinfo, &action);
}

/* set_zone_policy(zone_id, rotate_after, lifetime, grace_period) */
Datum
keyrot_set_zone_policy(PG_FUNCTION_ARGS)
{
	static const Action action = {
		"set_zone_policy", REQUEST_OF_ZONES, read_zone_policy, set_zone_policy, result_request_id
	};

	return request_run(fcinfo, &action);
}
