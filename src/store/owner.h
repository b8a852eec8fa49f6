/*
 * owner.h
 *	  Acting as the owner of keyrot's tables.
 */
#ifndef KEYROT_OWNER_H
#define KEYROT_OWNER_H

#include "base/compat.h"

/* What the caller was and had, to be given back. */
typedef struct OwnerSession
{
	Oid			user;
	int			security_context;
	int			nest_level;
} OwnerSession;

extern void owner_begin(OwnerSession *session);
extern void owner_end(const OwnerSession *session);

#endif
