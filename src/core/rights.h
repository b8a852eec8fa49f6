/*
 * rights.h
 *	  Whose credentials a role may act on.
 */
#ifndef KEYROT_RIGHTS_H
#define KEYROT_RIGHTS_H

#include "base/compat.h"

typedef enum RightsVerdict
{
	RIGHTS_GRANTED,
	RIGHTS_NOT_OWNER,
	RIGHTS_OWNER_CHANGED		/* the owner's OID and name are no longer one role's */
} RightsVerdict;

extern bool rights_is_operator(Oid caller);
extern RightsVerdict rights_over(Oid caller, Oid owner, const char *owner_name);
extern bool rights_may_call(Oid caller, const char *function);

#endif
