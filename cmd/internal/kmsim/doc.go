// Package kmsim simulates key managers, to develop and test against without QKD
// hardware. Its keys come from the system's random numbers and reach both sites
// because one process serves both. There is no quantum link and no secrecy.
//
//   - [NewQMail] makes a key manager with the QMail REST API, which sender and
//     recipient share, without authentication. Its status has the members of
//     that API (status, qkd_link_status, available_keys, queue_length) and
//     those of ETSI GS QKD 014.
//   - [NewETSI] makes a network of KMEs with the API of ETSI GS QKD 014 V1.1.1
//     and the SAEs attached to them. Each KME has its own handler, over mutual
//     TLS.
//   - [Serve] runs a handler. [Certs] makes certificates and the TLS
//     configuration.
//
// By default keys are made on demand and never run out. [Options] can make the
// simulator slow, empty or broken, and [Quirks] can make it stray from the
// standard as KMEs in the field do.
//
// # Answers outside the standard
//
// ETSI GS QKD 014 has the statuses 200, 400, 401 and 503. A request that is
// wrong at the level of HTTP gets HTTP's own answer: 404 for an unknown path,
// 405 for a wrong method, 413 for too large a body, 415 for a body that is not
// application/json. Requests are read strictly, since a simulator should find a
// client's mistakes: a member or query parameter that the standard does not
// have is a 400.
//
// # Secrets
//
// Logs and errors have no key bytes. Keys are in memory only, and are gone when
// the process ends.
package kmsim
