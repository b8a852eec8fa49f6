/*
 * bulk_distributed.h
 *	  Many credentials at once where the tables are distributed.  For bulk_statements.c alone.
 */
#ifndef KEYROT_BULK_DISTRIBUTED_H
#define KEYROT_BULK_DISTRIBUTED_H

#include "store/bulk_statements.h"

extern void bulk_distributed_lock_next(const BulkFilter *filter, const char *after, int limit, RotationReader reader,
									   void *reader_state);
extern void bulk_distributed_lock_listed(const BulkFilter *filter, char **identifiers, int count,
										 RotationReader reader, void *reader_state);
extern void bulk_distributed_lock_due(const DueFilter *filter, int limit, RotationReader reader, void *reader_state);
extern void bulk_distributed_end_grace_of(char **app_keys, int count);
extern void bulk_distributed_write(const Rotation *rotations, int count);
extern void bulk_distributed_record(const RequestRow *common, const Rotation *rotations, int count);

#endif
