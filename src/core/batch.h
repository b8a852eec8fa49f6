/*
 * batch.h
 *	  Many credentials of one kind, rotated together.
 */
#ifndef KEYROT_BATCH_H
#define KEYROT_BATCH_H

#include "core/request.h"
#include "store/bulk_statements.h"

/* In the memory context that was current when it was begun. */
typedef struct Batch
{
	CredentialKind kind;
	int			count;
	int			room;
	Rotation   *rotations;
} Batch;

extern void batch_begin(Batch *batch, CredentialKind kind);
extern void batch_add(Batch *batch, const Rotation *rotation, int64 grace);
extern void batch_rotate(Request *request, Batch *batch, TimestampTz not_before);

#endif
