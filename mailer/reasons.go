package mailer

// A Reason is why mail is refused, as "reason" in the log.
type Reason struct {
	Name   string // a few words, as in the log
	Means  string // a sentence
	Advice string // what the operator can do; a sentence
}

// Reasons returns all reasons, grouped by what they are about: keys, the message, the
// next hop, the client.
func Reasons() []Reason {
	return []Reason{
		{"no key left", "The key manager has no fresh key.", "Mail waits at its sender. Check the QKD link, and whether its key rate is enough for the mail."},
		{"km unavailable", "The key manager can't be reached or does not answer in time.", "Mail waits at its sender. Check the key manager, the network and the certificates."},
		{"km refuses", "The key manager does not serve this client.", "Check that the SAE ID and the client certificate belong together and are known to the key manager."},
		{"km answer", "The key manager's answer does not follow its protocol.", "Run qkdmail km doctor against it, and ask its vendor."},
		{"km request", "The key manager can't give keys of the size or number that is needed.", "Compare qkdmail status with the suite and pad limit of the rule."},
		{"bad key", "The key manager gives keys that can't be used.", "None of them is used. Run qkdmail km doctor against it, and ask its vendor."},
		{"key store", "The store for the keys of arriving messages fails.", "Check the disk or the cluster that it is on: space, permissions, health."},
		{"key not found", "The key of an arriving message is not at this key manager.", "It may not have been synchronised yet; the sender tries again. If this persists, check the QKD link and the SAE IDs of both sites."},
		{"key gone", "The key of an arriving message did not come within km.key_grace.", "The sender gets a report and can send again. Check the QKD link."},
		{"key bound", "The key of an arriving message belongs to another message.", "Someone may have copied a key ID into a message of their own. Look for the message in the log."},
		{"under way", "An arriving message came again while it was being delivered.", "The sender tries again, and finds it delivered. If this is frequent, next hops are slow, or someone is sending copies."},
		{"key closed", "The key of an arriving message has been used and deleted.", "An old message may have been sent again, by mistake or by an attacker. Look for it in the log."},
		{"no pad", "A rule asks for a one-time pad, and the key manager's limits allow no keys for it.", "Mail waits at its sender. Compare the limits in its status with docs/format.md, or set suite = \"auto\"."},
		{"key reused", "A key ID came again although its key was used here before.", "No key is used twice. If the key manager gave out the key, it may have been restored from a backup: ask its vendor before mail goes on. Otherwise a message names the key: look for the message in the log."},
		{"rate", "A peer's messages name too many unknown keys.", "Someone may be trying to keep the key manager busy. Look for the client in the log."},

		{"authentication", "An arriving message or its header was altered, or its key is the wrong one.", "Find out what changed it on the way: a mail system that rewrites, or an attacker."},
		{"damaged", "An arriving encrypted message is incomplete or broken.", "Find out what cut or rewrote it on the way; the sender can send again."},
		{"sae", "An arriving message is not for this site, or not from a configured peer.", "Compare km.sae and the peers' sae with those of the other site."},
		{"version", "An arriving message is in a format that is unknown here.", "Update qkdmail at this site."},
		{"suite", "An arriving message has a cipher suite that is unknown here.", "Update qkdmail at this site."},
		{"hybrid key", "An arriving message is for an X-Wing key that this site does not have.", "Mail waits at its sender. Put the private key in place, or give the peer the public key of one that is in place."},
		{"suite not agreed", "An arriving message has a cipher suite that this peer may not use.", "Agree on the suites with the peer, or change its suites."},
		{reasonRedirected, "An arriving message came for a recipient for whom its sender did not seal it.", "Someone may have redirected a copy of a message to another mailbox. If aliases are expanded before decryption, change that, or set recipients = \"any\" for the peer."},
		{reasonReversePath, "An arriving message has an envelope sender whose domain is neither the peer's nor that of the From inside.", "Someone may have sent on a copy of a message, to get a report with its text. If the peer forwards mail from mailing lists, have it rewrite the envelope sender (SRS), or set recipients = \"any\" for the peer."},
		{"not encrypted", "Plain mail came in the name of a peer that has to encrypt.", "Someone may be forging the peer's address, or the mail did not go through the peer's relay."},
		{"another peer's domain", "A peer sent mail in the name of another peer's domain.", "Someone at the peer may be forging addresses, or the domains of the peers are incomplete."},
		{"own domain", "A peer sent mail in the name of this site's domain.", "Someone at the peer may be forging addresses. A mailing list there that keeps the From of our users' mail has the same effect: have it write its own From, or leave the domain out of site.domains."},
		{"unreadable sender", "The From field of a message has encoded words that can't be decoded, or is too long.", "It could show a peer's address. The sender can write it in UTF-8."},
		{"too old", "An arriving message was encrypted more than 30 days ago.", "An old message may have been sent again. Otherwise check the clocks."},
		{"from the future", "An arriving message was encrypted more than a day in the future.", "Mail waits at its sender. Check the clocks of both sites."},
		{"size", "A message is larger than this relay, the next hop or a one-time pad allows.", "Compare limits.message_size with the mail systems on both sides."},
		{"header size", "The header of a message is larger than allowed, or has too many fields.", "Raise limits.header_size if such large headers are wanted; the number of fields is fixed."},
		{"long line", "A line of a message is longer than allowed.", "Raise limits.line_length if such mail is wanted."},
		{"bare line end", "A message has a bare CR or LF, which could smuggle in a second message.", "The client has to send CRLF."},
		{"nul", "A message has a NUL byte.", "The client has to encode it."},
		{"8bit", "A message has 8-bit content, and the next hop accepts none.", "Have the next hop offer 8BITMIME."},
		{"loop", "A message has passed through too many mail systems.", "Look for a loop between the relay and the mail system."},

		{reasonNextHop, "The next hop refused the message.", "Its answer is in the log."},
		{"next hop down", "The next hop can't be reached.", "Mail waits at its sender. Check the mail system after the relay."},
		{"memory", "There is no memory for another message right now.", "The client sends it again. Raise [limits] memory if the machine has more, or look for a client that keeps connections open."},
		{"next hop busy", "All connections to the next hop are in use.", "Raise max_connections of the next hop, or find out why it is slow."},
		{"next hop lost", "The next hop closed its connection.", "Mail waits at its sender. Check the next hop's log."},
		{"next hop answer", "The next hop's answer is not SMTP.", "Check that the address of the next hop is that of a mail system."},

		{"no rule", "No rule says how mail to this domain leaves.", "Add a [[rule]] for it."},
		{"no peer", "A trigger wants a message encrypted, and the rule for a recipient has no peer.", "The sender gets a report. The log names the trigger. Give the domain a rule with a peer, or change the trigger."},
		{"second group", "A message over SMTP has recipients with different rules, or more than 4,096.", "The client sends it again for the others. With LMTP it need not."},
		{"address", "An address has invalid syntax.", "The client has to correct it."},
		{"smtputf8", "An address is not ASCII, and SMTPUTF8 was not asked for or is not offered by the next hop.", "Have the mail systems on both sides use SMTPUTF8."},
		{"authentication required", "A client does not authenticate.", "Give the client a user in auth_file."},
		{"sequence", "A client sends commands in the wrong order.", "The client has to be corrected."},
		{"connection lost", "The client's connection was lost in the middle of a message.", "The client tries again. If this persists, check the network and timeouts.data_idle."},
		{"internal", "Something failed in the relay.", "The cause is in the log. Report it as a bug."},
	}
}
