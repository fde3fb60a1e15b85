// Package sim runs whole sites in one process, for days of simulated time in a
// fraction of a second:
//
//	senders ─▶ queue ─▶ relay ─▶ MTA and queue ─▶ wire ─▶ relay ─▶ mailboxes
//	                      │ enc_keys        attacker         │ dec_keys, deletes
//	                    KME A ═══════════════════════════ KME B
//
// The relays are the real ones, with their key store, pool and ETSI client. Everything
// else is simulated: time (testing/synctest), the network, key managers, the disk beneath
// the store, mail systems, crashes, operators and an attacker on the wire.
//
// A seed is a scenario: how the sites are set up, and a list of events. Each random
// decision while a scenario runs follows from the seed and from what is decided: an event,
// a mail, a try of a queue. If an event is removed, most of the rest stays as it was, but
// not all: keys follow from how many there were before, and the troubles of connections,
// key managers, stores and mail systems from the moment. The scheduler is not simulated:
// goroutines that run in the same instant may run in another order the next time.
//
// Begin with invariants_test.go, which says what must hold, whatever happens. Then
// scenario_test.go says what can happen, and world_test.go puts both together.
package sim
