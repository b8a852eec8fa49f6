/*
 * key_marker.h
 *	  Which master keys this cluster depends on, noted outside the database.
 */
#ifndef KEYROT_KEY_MARKER_H
#define KEYROT_KEY_MARKER_H

#include "keys/master_text.h"
#include "base/errors.h"

extern bool key_marker_exists(void);
extern bool key_marker_has(const uint8_t fingerprint[MASTER_TEXT_FINGERPRINT_BYTES]);
extern bool key_marker_add(const uint8_t fingerprint[MASTER_TEXT_FINGERPRINT_BYTES], KeyProblem *problem);

#endif
