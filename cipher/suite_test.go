package cipher_test

import "github.com/qkdmail/qkdmail/cipher"

// suites are those that a message can have: what holds for one must hold for each.
var suites = []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP}
