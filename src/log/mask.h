/*
 * mask.h
 *	  Statements without secrets, for the libraries that store or print them.
 */
#ifndef KEYROT_MASK_H
#define KEYROT_MASK_H

extern void mask_init(void);

#endif
