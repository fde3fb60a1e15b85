package kmdoctor

import (
	"context"
	"slices"
)

// The sources of rules. Clauses are named where the standard's own numbers are
// certain.
const (
	standard = "ETSI GS QKD 014 V1.1.1"
	clause   = "ETSI GS QKD 014 " // and "§6.1: "
	general  = standard + ": "
	sense    = "no rule, but common sense: "
)

// steps returns the checks in order: a check comes after those that it needs, and
// keys are followed to the other site as soon as they are given out, except those
// of the first request. A check needs only what it can't do without: a KME whose
// status is wrong may still serve keys.
func steps() []step {
	return slices.Concat(tlsSteps(), statusSteps(), encSteps(), refusalSteps(), decSteps(), lastSteps())
}

func tlsSteps() []step {
	reached := []string{"tls-handshake", "tls-certificate"}
	return []step{
		{id: "tls-handshake", rule: general + "HTTPS with TLS 1.2 or later", run: (*doctor).tlsHandshake},
		{id: "tls-certificate", rule: general + "the KME's certificate is issued by its CA", run: (*doctor).tlsCertificate},
		{id: "tls-kme-id", rule: general + "the KME's certificate has the KME's ID", needs: reached, run: (*doctor).tlsKMEID},
		{id: "tls-old", rule: general + "no TLS before 1.2", needs: reached[:1], run: (*doctor).tlsOld},
		{id: "tls-group", rule: sense + "TLS agrees on keys with a post-quantum group such as X25519MLKEM768", needs: reached, run: (*doctor).tlsGroup},
		{id: "tls-client", rule: general + "no service without a client certificate (refused by TLS, or 401)", needs: reached, run: (*doctor).tlsClient},
	}
}

// served returns the checks of which at least one must have passed: then the KME
// serves this caller.
func served() []string { return []string{"status", "enc-default"} }

// servedPeer returns the same for the peer and its KME.
func servedPeer() []string { return []string{"peer-status", "dec-keys"} }

func statusSteps() []step {
	needs := []string{"status"}
	return []step{
		{id: "status", rule: general + "status by GET is a JSON object with HTTP 200", needs: []string{"tls-handshake", "tls-certificate"}, run: (*doctor).statusAnswer},
		{id: "status-fields", rule: clause + "§6.1: status has every field, with the right type", needs: needs, run: (*doctor).statusFields},
		{id: "status-sizes", rule: clause + "§6.1: min_key_size ≤ key_size ≤ max_key_size, multiples of 8", needs: needs, run: (*doctor).statusSizes},
		{id: "status-counts", rule: clause + "§6.1: max_key_per_request is at least 1, no count negative", needs: needs, run: (*doctor).statusCounts},
		{id: "status-sae", rule: clause + "§6.1: status names the caller as master and the peer as slave", needs: needs, run: (*doctor).statusSAE},
	}
}

func encSteps() []step {
	reached := []string{"tls-handshake", "tls-certificate"}
	return []step{
		{id: "enc-default", rule: clause + "§6.2: POST enc_keys with {} gives 1 key of key_size", needs: reached, run: (*doctor).encDefault},
		{id: "enc-number", rule: clause + "§6.2: POST enc_keys gives as many keys as number says", oneOf: served(), run: (*doctor).encNumber},
		{id: "enc-size", rule: clause + "§6.2: POST enc_keys gives keys of the size asked for", needs: []string{"status-sizes"}, run: (*doctor).encSize},
		{id: "peer-status", rule: general + "the peer's KME serves the peer, and the KMEs name each other", oneOf: served(), peer: true, self: true, run: (*doctor).peerStatus},
		{id: "dec-keys", rule: general + "POST dec_keys gives the peer the same keys", oneOf: served(), peer: true, self: true, run: (*doctor).decKeys},
		{id: "dec-deleted", rule: general + "a key is deleted once dec_keys has given it out", needs: []string{"dec-keys"}, peer: true, run: (*doctor).decDeleted},
		{id: "enc-get", rule: general + "GET enc_keys obeys number and size in the query", oneOf: served(), run: (*doctor).encGet},
		{id: "dec-get", rule: general + "GET dec_keys with key_ID gives the peer the same key", oneOf: servedPeer(), peer: true, run: (*doctor).decGet},
		{id: "enc-optional", rule: clause + "§6.2: an unknown extension_optional does no harm", oneOf: served(), run: (*doctor).encOptional},
		{id: "dec-stranger", rule: general + "dec_keys is a 401 for a caller that was not named as a slave", oneOf: served(), self: true, run: (*doctor).decStranger},
		{id: "dec-own", rule: general + "a caller that got a key from enc_keys can't fetch it again", oneOf: served(), run: (*doctor).decOwn},
		{id: "dec-whole", rule: general + "dec_keys with an unknown ID among others gives no key and uses up none", oneOf: servedPeer(), peer: true, run: (*doctor).decWhole},
	}
}

func decSteps() []step {
	return []step{
		{id: "dec-unknown", rule: general + "dec_keys with an unknown ID is a 400 that says so", oneOf: served(), run: (*doctor).decUnknown},
		{id: "dec-later", rule: general + "a key stays for the peer while others are given out", oneOf: servedPeer(), peer: true, run: (*doctor).decLater},
	}
}

func lastSteps() []step {
	return []step{
		{id: "key-id", rule: clause + "§6.3: key_ID is a UUID", keys: true, run: (*doctor).keyID},
		{id: "key-id-once", rule: clause + "§6.3: no key_ID comes twice", keys: true, run: (*doctor).keyIDOnce},
		{id: "key-base64", rule: clause + "§6.3: key is base64", keys: true, run: (*doctor).keyBase64},
		{id: "key-random", rule: sense + "no two keys are the same, and no key is one byte repeated", run: (*doctor).keyRandom},
		{id: "error-body", rule: clause + "§6.5: an error is a JSON object with a message; a 401 needs none",
			run: func(d *doctor, _ context.Context) verdict { return d.errorBodies.verdict("refusals") }},
		{id: "content-type", rule: general + "answers are application/json",
			run: func(d *doctor, _ context.Context) verdict { return d.contentTypes.verdict("answers") }},
		{id: "stored-count", rule: sense + "stored_key_count stays between 0 and max_key_count, and is not 0 if keys are given", needs: []string{"status"}, run: (*doctor).storedCount},
	}
}
