package kmsim

import (
	"cmp"
	"crypto/rand"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
)

// handOut answers with new keys, and keeps copies for the SAEs that may fetch
// them later.
func (c *core) handOut(info *call, from *stock, to grant, size, number int) (any, error) {
	quirks := c.o.Quirks
	if quirks.MostKeys > 0 {
		number = min(number, quirks.MostKeys)
	}
	if quirks.ForgetEarlier {
		c.held.forget(to.pool)
	}
	var keys []*kmclient.Key
	if quirks.RepeatKeys {
		keys = c.held.earlier(to.pool, size, number)
	}
	each := (size + c.o.KeySize - 1) / c.o.KeySize
	cost := (number - len(keys)) * each
	for !from.take(cost) {
		if quirks.GiveRest && number-1 > len(keys) {
			number, cost = number-1, cost-each
			continue
		}
		kmclient.WipeAll(keys)
		return nil, &problem{status: c.o.ExhaustedStatus, message: cmp.Or(quirks.ExhaustedMessage, "no keys available: the key pool is exhausted")}
	}
	fresh := make([]*kmclient.Key, 0, number)
	for len(keys)+len(fresh) < number {
		secret := make([]byte, size/8)
		_, _ = rand.Read(secret) // never fails
		fresh = append(fresh, kmclient.NewKey(uuid.NewString(), secret))
	}
	err := c.held.put(to, fresh...)
	keys = append(keys, fresh...)
	if err != nil {
		from.giveBack(cost)
		kmclient.WipeAll(keys)
		return nil, err
	}
	if quirks.FewerKeys {
		keys[number-1].Wipe()
		keys = keys[:number-1]
	}
	return newContainer(info, keys), nil
}
