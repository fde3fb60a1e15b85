package cipher_test

import (
	"io"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// usualHeader is a header as mail programs and servers write it.
var usualHeader = strings.ReplaceAll(`Return-Path: <alice@example.org>
Received: from mail.example.org (mail.example.org [192.0.2.1])
	by mx.example.net (Postfix) with ESMTPS id 4cXyZ12345
	for <bob@example.net>; Mon, 13 Oct 2025 09:56:36 +0200 (CEST)
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=mail;
	h=from:to:subject:date; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;
	b=AAAA
Message-ID: <c0ffee@example.org>
Date: Mon, 13 Oct 2025 09:56:35 +0200
MIME-Version: 1.0
User-Agent: Mozilla Thunderbird
Subject: Figures for October
To: Bob Example <bob@example.net>, Carol <carol@example.net>
Cc: dave@example.com
From: Alice Example <alice@example.org>
In-Reply-To: <beef@example.net>
References: <dead@example.org> <beef@example.net>
Content-Type: text/plain; charset=UTF-8; format=flowed
Content-Transfer-Encoding: 7bit

`, "\n", "\r\n")

// TestAllocations limits the number of allocations for a message: in a small message
// they take more time than encryption.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops pooled buffers: run without -race")
	}
	for _, suite := range []struct {
		suite            cipher.Suite
		encrypt, decrypt float64
	}{
		{cipher.SuiteAES256GCM, 190, 130},
		{cipher.SuiteOTP, 170, 120},
		{cipher.SuiteAES256GCMXWing, 290, 230},
		{cipher.SuiteOTPXWing, 290, 230},
	} {
		for _, size := range []int{4 << 10, 50 << 10} {
			km := newDerivedKM()
			plain := append([]byte(usualHeader), make([]byte, size)...)
			outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite.suite})
			n := testing.AllocsPerRun(50, func() { benchEncrypt(t, io.Discard, km, suite.suite, plain) })
			t.Logf("%s, %d bytes: %.0f allocations to encrypt", suite.suite, size, n)
			if n > suite.encrypt {
				t.Errorf("%s, %d bytes: %.0f allocations to encrypt, want at most %.0f", suite.suite, size, n, suite.encrypt)
			}
			n = testing.AllocsPerRun(50, func() { benchDecrypt(t, km, outer) })
			t.Logf("%s, %d bytes: %.0f allocations to decrypt", suite.suite, size, n)
			if n > suite.decrypt {
				t.Errorf("%s, %d bytes: %.0f allocations to decrypt, want at most %.0f", suite.suite, size, n, suite.decrypt)
			}
		}
	}
}
