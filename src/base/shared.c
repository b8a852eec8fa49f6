/*
 * shared.c
 *	  Shared memory that is asked for when the library is preloaded: one pair of hooks for all modules that have some.
 */
#include "base/shared.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#define MAX_PARTS 8

/* The memory of a module. */
typedef struct Part
{
	const char *name;
	Size		bytes;
	Size		bytes_of_tables;
	SharedStart start;
} Part;

static Part parts[MAX_PARTS];
static int	part_count = 0;

static shmem_request_hook_type next_request_hook = NULL;
static shmem_startup_hook_type next_startup_hook = NULL;

static void
request_memory(void)
{
	if (next_request_hook != NULL)
		next_request_hook();
	for (int i = 0; i < part_count; i++)
	{
		RequestAddinShmemSpace(add_size(parts[i].bytes, parts[i].bytes_of_tables));
		RequestNamedLWLockTranche(parts[i].name, 1);
	}
}

static void
start_up(void)
{
	if (next_startup_hook != NULL)
		next_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < part_count; i++)
	{
		bool		found;
		void	   *memory = ShmemInitStruct(parts[i].name, parts[i].bytes, &found);

		parts[i].start(memory, &GetNamedLWLockTranche(parts[i].name)->lock, found);
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * Asks for memory and a lock of this name, and as many bytes for hash tables, which "start" makes.  Called while the
 * library is preloaded.
 */
void
shared_add(const char *name, Size bytes, Size bytes_of_tables, SharedStart start)
{
	Assert(part_count < MAX_PARTS);
	if (part_count == 0)
	{
		next_request_hook = shmem_request_hook;
		shmem_request_hook = request_memory;
		next_startup_hook = shmem_startup_hook;
		shmem_startup_hook = start_up;
	}
	parts[part_count++] = (Part) {name, bytes, bytes_of_tables, start};
}
