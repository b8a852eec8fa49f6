/*
 * settings.h
 *	  Every setting of keyrot.
 */
#ifndef KEYROT_SETTINGS_H
#define KEYROT_SETTINGS_H

extern char *keyrot_master_key_file;
extern char *keyrot_operator_role;
extern int	keyrot_max_grace;		/* seconds */

extern void settings_init(void);
extern bool settings_preloaded(void);

#endif
