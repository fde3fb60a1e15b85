package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// Operations.
const (
	opEncrypt = "encrypt"
	opDecrypt = "decrypt"
)

var operations = []string{opEncrypt, opDecrypt}

// A cell is what is measured: who does what with how much.
type cell struct {
	who, op string
	size    int // octets
}

// A series has the runs of a cell, in the order of the rounds.
type series struct {
	samples []sample
	peak    int64 // octets of memory; 0: not known
}

// messages measures all contenders with all sizes. In round 0, which is to warm
// up, memory is measured and not the time.
func (b *bench) messages(ctx context.Context) error {
	contenders, err := b.contenders(ctx)
	if err != nil {
		return err
	}
	if !hasTime() {
		b.skip("peak memory: %s is not installed", timeProgram)
	}
	for _, c := range contenders {
		b.names = append(b.names, c.name)
	}
	plain := filepath.Join(b.dir, "plain.eml")
	for _, size := range b.sizes {
		if err := writeMail(plain, size); err != nil {
			return err
		}
		taking := slices.DeleteFunc(slices.Clone(contenders), func(c *contender) bool { return c.most != 0 && size > c.most })
		for round := range b.repeats(size) + 1 {
			for i := range taking {
				c := taking[(i+round)%len(taking)]
				if err := b.message(ctx, c, plain, size, round == 0); err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, sizeName(size), err)
				}
			}
		}
	}
	return nil
}

// message encrypts and decrypts a message, and compares.
func (b *bench) message(ctx context.Context, c *contender, plain string, size int, warmUp bool) error {
	if c.prepare != nil {
		if err := c.prepare(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	sealed, restored := filepath.Join(b.dir, "sealed"), filepath.Join(b.dir, "restored")
	for _, step := range []struct {
		op      string
		argv    []string
		outFile string
	}{{opEncrypt, c.encrypt(plain), sealed}, {opDecrypt, c.decrypt(sealed), restored}} {
		s := b.at(cell{c.name, step.op, size})
		if !warmUp {
			one, err := measure(ctx, step.outFile, step.argv)
			if err != nil {
				return err
			}
			s.samples = append(s.samples, one)
			continue
		}
		argv, peak := step.argv, func() (int64, error) { return 0, nil }
		if hasTime() {
			argv, peak = withMemory(b.dir, argv)
		}
		if _, err := measure(ctx, step.outFile, argv); err != nil {
			return err
		}
		var err error
		if s.peak, err = peak(); err != nil {
			return err
		}
	}
	return sameFile(plain, restored)
}

// longStream sends a message that is in no file through encryption and
// decryption at once, for the memory that they take.
func (b *bench) longStream(ctx context.Context) error {
	if !hasTime() {
		return nil
	}
	c := b.qkdmail(nameAES, 0)
	if err := c.prepare(); err != nil {
		return err
	}
	argv, peakEncrypt := withMemory(b.dir, c.encrypt("-"))
	encrypt := exec.CommandContext(ctx, argv[0], argv[1:]...)
	argv, peakDecrypt := withMemory(b.dir, c.decrypt("-"))
	decrypt := exec.CommandContext(ctx, argv[0], argv[1:]...)

	var err error
	encrypt.Stdin = mail(b.stream)
	if decrypt.Stdin, err = encrypt.StdoutPipe(); err != nil {
		return err
	}
	restored, err := decrypt.StdoutPipe()
	if err != nil {
		return err
	}
	if err := encrypt.Start(); err != nil {
		return err
	}
	if err := decrypt.Start(); err != nil {
		_ = encrypt.Process.Kill()
		return errors.Join(err, encrypt.Wait())
	}
	different := same(restored, mail(b.stream))
	_, _ = io.Copy(io.Discard, restored) // or they would wait
	if err := errors.Join(decrypt.Wait(), encrypt.Wait(), different); err != nil {
		return err
	}
	for op, peak := range map[string]func() (int64, error){opEncrypt: peakEncrypt, opDecrypt: peakDecrypt} {
		s := b.at(cell{nameAES, op, b.stream})
		if s.peak, err = peak(); err != nil {
			return err
		}
	}
	return nil
}
