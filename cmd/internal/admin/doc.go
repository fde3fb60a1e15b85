// Package admin is what administrators see of a relay: health, metrics and a
// status page, over HTTP.
//
//	/          the status page, which updates itself
//	/healthz   200 as long as the process lives
//	/readyz    200 if mail can be expected to flow, else 503, with what to do
//	/metrics   for Prometheus; see docs/metrics.md
//	/debug/pprof/  Go's profiles, if enabled
//
// A [Monitor] observes each message of the relay ([mailer.Observer]) and checks the
// key manager, the next hops and the store every half minute, however often its
// pages are asked for. A [Simulator] has the metrics of a simulated key manager.
// [Serve] serves either.
//
// Nothing here comes from mail. No page or label has an address, a subject, a key
// or a key ID, and the page shows no secret of the configuration and no file's
// contents. Labels have few values: names from the configuration, and words from
// lists in this program.
package admin
