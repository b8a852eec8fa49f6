/*
 * distribution.h
 *	  keyrot's tables spread over a Citus cluster.
 */
#ifndef KEYROT_DISTRIBUTION_H
#define KEYROT_DISTRIBUTION_H

#include "base/compat.h"

/* What a node of the cluster answers. */
typedef struct NodeAnswer
{
	const char *node;			/* host and port */
	bool		success;
	const char *text;			/* what it answered, or its error; NULL: nothing */
} NodeAnswer;

typedef void (*NodeReader) (const NodeAnswer *answer, void *reader_state);

extern bool distribution_has(Oid table);
extern int	distribution_citus_version(void);
extern const char *distribution_obstacle(const char **table);
extern bool distribution_awaits_first_use(void);
extern void distribution_spread(int shard_count);
extern int32 distribution_group(void);
extern Datum distribution_roles_of(Oid caller);
extern void distribution_await_writers(void);
extern void distribution_lock_data_keys(void);
extern int	distribution_examine_nodes(NodeReader reader, void *reader_state);

#endif
