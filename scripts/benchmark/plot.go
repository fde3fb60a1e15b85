package main

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// colors of the contenders, which people who see no red or green can tell apart
// (Okabe and Ito).
var colors = map[string]color.Color{
	nameCopy:    color.Gray{0x99},
	nameOpenSSL: color.RGBA{0xE6, 0x9F, 0x00, 0xFF},
	nameAge:     color.RGBA{0x00, 0x9E, 0x73, 0xFF},
	nameGPG:     color.RGBA{0xCC, 0x79, 0xA7, 0xFF},
	nameAES:     color.RGBA{0x00, 0x72, 0xB2, 0xFF},
	nameOTP:     color.RGBA{0xD5, 0x5E, 0x00, 0xFF},
	nameOTPREST: color.RGBA{0x56, 0xB4, 0xE9, 0xFF},
}

// draw writes the plot: time and memory, encrypt and decrypt, against size.
func (b *bench) draw(path string) error {
	plot.DefaultFont.Variant = "Sans"
	rows := [][]*plot.Plot{
		b.row("time, ms", func(s *series) float64 { return s.wall().Seconds() * 1000 }),
		b.row("peak memory, MiB", func(s *series) float64 { return mebi(s.peak) }),
	}
	for i, p := range slices.Concat(rows...) {
		if i > 0 {
			p.Legend = plot.NewLegend() // it would be the same
		}
	}
	canvas := vgsvg.New(vg.Points(760), vg.Points(640))
	dc := draw.New(canvas)
	dc.SetColor(color.White)
	dc.Fill(dc.Rectangle.Path())
	tiles := draw.Tiles{
		Rows: len(rows), Cols: len(operations), PadX: vg.Points(24), PadY: vg.Points(24),
		PadTop: vg.Points(12), PadBottom: vg.Points(8), PadLeft: vg.Points(8), PadRight: vg.Points(24),
	}
	for row, canvases := range plot.Align(rows, tiles, dc) {
		for col, c := range canvases {
			rows[row][col].Draw(c)
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := canvas.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}

// row is a panel for each operation, with the same axes.
func (b *bench) row(what string, value func(*series) float64) []*plot.Plot {
	var row []*plot.Plot
	low, high := math.Inf(1), math.Inf(-1)
	for _, op := range operations {
		p := b.panel(op, what, value)
		low, high = min(low, p.Y.Min), max(high, p.Y.Max)
		row = append(row, p)
	}
	if low > high { // nothing was measured
		low, high = 1, 10
	}
	sizes := b.plotted()
	for _, p := range row {
		p.X.Min, p.X.Max = float64(sizes[0]), float64(sizes[len(sizes)-1])
		p.Y.Min, p.Y.Max = low/1.5, high*1.5
	}
	return row
}

// plotted are the sizes in the plot, ascending.
func (b *bench) plotted() []int { return append(slices.Clone(b.sizes), b.stream) }

// panel has a line for each contender that has figures.
func (b *bench) panel(op, what string, value func(*series) float64) *plot.Plot {
	p := plot.New()
	p.Title.Text = op + ": " + what
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker = plot.ConstantTicks(sizeTicks(b.plotted()))
	p.Y.Tick.Marker = plot.TickerFunc(decades)
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size, p.Legend.Padding = vg.Points(10), vg.Points(2)
	p.Add(plotter.NewGrid())
	for _, name := range b.names {
		var points plotter.XYs
		for _, size := range b.plotted() {
			if s, ok := b.cells[cell{name, op, size}]; ok && value(s) > 0 {
				points = append(points, plotter.XY{X: float64(size), Y: value(s)})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			panic(err) // infinite or no figures: neither is here
		}
		line.Color, line.Width = colors[name], vg.Points(1.5)
		if name == nameAES {
			line.Width = vg.Points(3)
		}
		dots.Color, dots.Shape, dots.Radius = colors[name], draw.CircleGlyph{}, vg.Points(3)
		p.Add(line, dots)
		p.Legend.Add(name, line, dots)
	}
	return p
}

func sizeTicks(sizes []int) []plot.Tick {
	var ticks []plot.Tick
	for _, size := range sizes {
		ticks = append(ticks, plot.Tick{Value: float64(size), Label: sizeName(size)})
	}
	return ticks
}

// decades marks 1, 10, 100 …, and without a label what is between.
func decades(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for d := math.Pow(10, math.Floor(math.Log10(low))); d <= high; d *= 10 {
		for i := 1.0; i < 10; i++ {
			if v := i * d; v >= low && v <= high {
				label := ""
				if i == 1 || high/low < 30 && (i == 2 || i == 5) {
					label = fmt.Sprintf("%g", v)
				}
				ticks = append(ticks, plot.Tick{Value: v, Label: label})
			}
		}
	}
	return ticks
}
