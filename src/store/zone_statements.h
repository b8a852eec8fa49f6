/*
 * zone_statements.h
 *	  The statements on zones and their gateways.
 */
#ifndef KEYROT_ZONE_STATEMENTS_H
#define KEYROT_ZONE_STATEMENTS_H

#include "base/compat.h"

#include "store/rows.h"

extern bool zone_statements_insert(const Credential *zone);
extern void zone_statements_revive(const Credential *zone);
extern bool zone_statements_insert_gateway(const char *zone_id, const char *gateway_id, TimestampTz added_at);
extern bool zone_statements_delete_gateway(const char *zone_id, const char *gateway_id);
extern void zone_statements_delete_gateways(const char *zone_id);

#endif
