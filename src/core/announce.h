/*
 * announce.h
 *	  Who listens is told of rotations.
 */
#ifndef KEYROT_ANNOUNCE_H
#define KEYROT_ANNOUNCE_H

#include "store/records.h"

extern void announce_rotation(const RequestRow *row);

#endif
