/*
 * owner.c
 *	  Acts as the owner of keyrot's tables, so that callers need no rights on them.
 *
 * The role and the search_path go together.  With the role alone, a kept plan that is analysed anew, or
 * a trigger, would look its operators and functions up on the caller's search_path and run what it finds
 * there as the owner.
 */
#include "store/owner.h"

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/inval.h"

#include "store/tables.h"

/*
 * Becomes the tables' owner, after a last look at what has happened to them meanwhile, until owner_end();
 * on PostgreSQL's own search_path.  Where an error comes in between, the abort of the (sub)transaction
 * undoes it, too.
 */
void
owner_begin(OwnerSession *session)
{
	Oid			owner;

	AcceptInvalidationMessages();
	owner = tables_get()->owner;
	GetUserIdAndSecContext(&session->user, &session->security_context);
	session->nest_level = NewGUCNestLevel();
	SetUserIdAndSecContext(owner, session->security_context | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* Gives back what owner_begin() changed. */
void
owner_end(const OwnerSession *session)
{
	AtEOXact_GUC(false, session->nest_level);
	SetUserIdAndSecContext(session->user, session->security_context);
}
