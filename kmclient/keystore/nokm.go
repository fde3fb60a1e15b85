package keystore

import (
	"context"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

// noKM stands in for a key manager if there is none.
type noKM struct{}

var errNoKM = fmt.Errorf("%w: there is no key manager", kmclient.ErrUnavailable)

func (noKM) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, errNoKM
}

func (noKM) GetKeys(context.Context, string, int, int) ([]*kmclient.Key, error) { return nil, errNoKM }

func (noKM) KeysByID(context.Context, string, ...string) ([]*kmclient.Key, error) {
	return nil, errNoKM
}

func (noKM) CloseKey(context.Context, string) error { return errNoKM }

// DeletesOnDelivery is false: nothing is delivered.
func (noKM) DeletesOnDelivery() bool { return false }
