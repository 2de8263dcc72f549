package view

import (
	"fmt"
	"io"
	"strings"

	"github.com/rivo/uniseg"
)

// table is text in columns. text/tabwriter would count a colour's escape
// sequence and both halves of a wide character as if they were letters.
type table struct {
	rows [][]string // of equal length
}

// write aligns the columns. paint may colour a cell: what it adds must have no
// width.
func (t table) write(w io.Writer, paint func(row, column int, cell string) string) {
	const gap = 2
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], uniseg.StringWidth(cell))
		}
	}
	for i, row := range t.rows {
		for j, cell := range row {
			fmt.Fprint(w, paint(i, j, cell))
			if j < len(row)-1 {
				fmt.Fprint(w, strings.Repeat(" ", widths[j]-uniseg.StringWidth(cell)+gap))
			}
		}
		fmt.Fprintln(w)
	}
}
