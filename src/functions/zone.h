/*
 * zone.h
 *	  Operations on zones, for callers other than SQL functions.
 */
#ifndef KEYROT_ZONE_H
#define KEYROT_ZONE_H

#include "core/request.h"

extern const Action zone_create_key_action;
extern const Action zone_refresh_key_action;
extern const Action zone_modify_key_action;
extern const Action zone_describe_key_action;

#endif
