package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// colors tell the programs apart, also for people who can't tell red from green
// (Okabe and Ito).
var colors = map[string]string{
	nameAES: "#0072b2", nameOTP: "#d55e00", nameREST: "#56b4e9",
	nameOpenSSL: "#e69f00", nameAge: "#009e73", nameGPG: "#cc79a7", nameCopy: "#999", nameHybrid: "#000",
}

// Lengths of the plot, in pixels.
const (
	panelWidth, panelHeight = 300, 220
	panelLeft, panelTop     = 60, 50 // to its axes
	legendHeight            = 90
	legendColumns           = 3
)

// plot draws time and memory by size, for encryption and decryption, as SVG.
func (b *bench) plot() []byte {
	var out bytes.Buffer
	width, height := 2*(panelWidth+panelLeft)+30, 2*(panelHeight+panelTop)+legendHeight
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="#fff"/>
`, width, height)
	for i, fig := range []struct{ name, title string }{{figTime, "time, ms"}, {figPeak, "peak memory, MiB"}} {
		low, high := math.Inf(1), 0.0
		for _, r := range b.Rows {
			if v := r.Median[fig.name]; v > 0 && colors[r.Who] != "" {
				low, high = min(low, v), max(high, v)
			}
		}
		if high == 0 { // nothing was measured
			low, high = 1, 10
		}
		for j, op := range operations {
			a := axes{
				left: panelLeft + j*(panelWidth+panelLeft), top: panelTop + i*(panelHeight+panelTop),
				sizes: b.fileSizes(), low: low / 1.5, high: high * 1.5,
			}
			a.draw(&out, op+": "+fig.title)
			for _, p := range programs {
				b.line(&out, a, p.name, op, fig.name)
			}
		}
	}
	for i, p := range programs {
		x, y := panelLeft+i%legendColumns*(width-panelLeft)/legendColumns, height-legendHeight+35+i/legendColumns*20
		fmt.Fprintf(&out, `<path d="M%d,%dh20" stroke="%s" stroke-width="3"/><text x="%d" y="%d">%s</text>`+"\n",
			x, y-4, colors[p.name], x+26, y, html.EscapeString(p.name))
	}
	fmt.Fprintln(&out, "</svg>")
	return out.Bytes()
}

// Axes are those of a panel, both logarithmic.
type axes struct {
	left, top int
	sizes     []int // on the x-axis, ascending
	low, high float64
}

func (a axes) x(size int) float64 {
	return float64(a.left) + panelWidth*part(float64(size), float64(a.sizes[0]), float64(a.sizes[len(a.sizes)-1]))
}

func (a axes) y(value float64) float64 {
	return float64(a.top) + panelHeight*(1-part(value, a.low, a.high))
}

// part returns where a value lies between two others, from 0 to 1.
func part(v, low, high float64) float64 { return math.Log(v/low) / math.Log(high/low) }

// draw draws the axes with their grid.
func (a axes) draw(out *bytes.Buffer, title string) {
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="middle" font-size="14">%s</text>`+"\n", a.left+panelWidth/2, a.top-10, title)
	for _, size := range a.sizes {
		fmt.Fprintf(out, `<path d="M%.1f,%dv%d" stroke="#ddd"/><text x="%.1[1]f" y="%[4]d" text-anchor="middle" font-size="10">%s</text>`+"\n",
			a.x(size), a.top, panelHeight, a.top+panelHeight+14, sizeName(size))
	}
	for decade := math.Pow(10, math.Floor(math.Log10(a.low))); decade <= a.high; decade *= 10 {
		for _, v := range []float64{decade, 2 * decade, 5 * decade} {
			if v < a.low || v > a.high || v != decade && a.high/a.low > 1000 {
				continue
			}
			fmt.Fprintf(out, `<path d="M%d,%.1fh%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" font-size="10">%g</text>`+"\n",
				a.left, a.y(v), panelWidth, a.left-5, a.y(v)+3, v)
		}
	}
	fmt.Fprintf(out, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#333"/>`+"\n", a.left, a.top, panelWidth, panelHeight)
}

// line draws the figures of a program.
func (b *bench) line(out *bytes.Buffer, a axes, who, op, fig string) {
	var path bytes.Buffer
	for _, size := range a.sizes {
		if v := b.find(who, op, size).Median[fig]; v > 0 {
			move := 'L'
			if path.Len() == 0 {
				move = 'M'
			}
			fmt.Fprintf(&path, "%c%.1f,%.1f", move, a.x(size), a.y(v))
			fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", a.x(size), a.y(v), colors[who])
		}
	}
	if path.Len() > 0 {
		fmt.Fprintf(out, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", &path, colors[who])
	}
}
