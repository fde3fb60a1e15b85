// Package admin is what administrators see of a relay: health, metrics and a
// status page, over HTTP.
//
//	/          a page for people, which keeps itself up to date
//	/healthz   200 as long as the process lives
//	/readyz    200, or 503 and what to do
//	/metrics   for Prometheus; docs/metrics.md says what each means
//	/debug/pprof/  Go's profiles, only if asked for
//
// A [Monitor] is told of each message by the relay ([mailer.Observer]) and looks
// at the key manager, the next hops and the store by itself, every half minute.
// However often its pages are asked for, nothing behind the relay is asked more
// often. A [Simulator] has the metrics of a simulated key manager. [Serve] serves
// either.
//
// Nothing here comes from mail: there is no address, no subject, no key and no
// key ID on any page and in any label, and of the configuration no secret and no
// content of a file. Labels have few values: names from the configuration, and
// words from lists in this program.
package admin
