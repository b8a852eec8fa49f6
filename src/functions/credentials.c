/*
 * credentials.c
 *	  The SQL functions that are the same for apps and zones: each locks the credential, and does what core/credential.c
 *	  says.
 */
#include "functions/function.h"
#include "core/argument.h"
#include "core/credential.h"
#include "core/result.h"

static CredentialKind
kind_of(const Request *request)
{
	return request->action->family == REQUEST_OF_APPS ? CREDENTIAL_APP : CREDENTIAL_ZONE;
}

static void
read_target(Request *request)
{
	argument_target(request->fcinfo, kind_of(request), request->target);
}

static void
read_owner(Request *request)
{
	read_target(request);
	request->arguments.owner = argument_owner(request->fcinfo, 1, &request->arguments.owner_name);
}

static void
set_owner(Request *request)
{
	credential_lock(request, kind_of(request));
	credential_set_owner(request);
}

/* set_app_owner(app_key, owner), set_zone_owner(zone_id, owner) */
REQUEST_FUNCTION(set_app_owner, REQUEST_OF_APPS, read_owner, set_owner, result_request_id);
REQUEST_FUNCTION(set_zone_owner, REQUEST_OF_ZONES, read_owner, set_owner, result_request_id);


static void
end_grace(Request *request)
{
	credential_lock(request, kind_of(request));
	credential_end_grace(request);
}

/* end_app_grace(app_key), end_zone_grace(zone_id) */
REQUEST_FUNCTION(end_app_grace, REQUEST_OF_APPS, read_target, end_grace, result_request_id);
REQUEST_FUNCTION(end_zone_grace, REQUEST_OF_ZONES, read_target, end_grace, result_request_id);


static void
revert(Request *request)
{
	credential_lock(request, kind_of(request));
	credential_revert(request);
}

/* revert_app_secret(app_key), revert_zone_key(zone_id) */
REQUEST_FUNCTION(revert_app_secret, REQUEST_OF_APPS, read_target, revert, result_request_id);
REQUEST_FUNCTION(revert_zone_key, REQUEST_OF_ZONES, read_target, revert, result_request_id);


static void
disable(Request *request)
{
	credential_lock(request, kind_of(request));
	credential_disable(request);
}

/* disable_app(app_key), disable_zone(zone_id) */
REQUEST_FUNCTION(disable_app, REQUEST_OF_APPS, read_target, disable, result_request_id);
REQUEST_FUNCTION(disable_zone, REQUEST_OF_ZONES, read_target, disable, result_request_id);


static void
enable(Request *request)
{
	credential_lock(request, kind_of(request));
	credential_enable(request);
}

/* enable_app(app_key), enable_zone(zone_id) */
REQUEST_FUNCTION(enable_app, REQUEST_OF_APPS, read_target, enable, result_request_id);
REQUEST_FUNCTION(enable_zone, REQUEST_OF_ZONES, read_target, enable, result_request_id);


/* The three parts of a policy follow the identifier. */
static void
read_policy(Request *request)
{
	Policy	   *policy = &request->arguments.policy;

	read_target(request);
	argument_optional_period(request->fcinfo, 1, PARAM_ROTATE_AFTER, &policy->rotate_after);
	argument_optional_period(request->fcinfo, 2, PARAM_LIFETIME, &policy->lifetime);
	policy->grace = argument_grace(request->fcinfo, 3);
}

static void
set_policy(Request *request)
{
	credential_lock(request, kind_of(request));
	credential_set_policy(request);
}

/* set_app_policy(app_key, rotate_after, lifetime, grace_period), set_zone_policy(zone_id, rotate_after, lifetime, grace_period) */
REQUEST_FUNCTION(set_app_policy, REQUEST_OF_APPS, read_policy, set_policy, result_request_id);
REQUEST_FUNCTION(set_zone_policy, REQUEST_OF_ZONES, read_policy, set_policy, result_request_id);
