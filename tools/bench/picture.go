package main

import (
	"fmt"
	"html"
	"strings"
)

// The picture's measures, in pixels. A bar of the length scale is a figure that equals its goal.
const (
	width, lineHeight, top = 1070, 26, 46
	barsAt, scale          = 640, 220
	longest                = width - barsAt - 90
)

// picture draws each figure that has a goal as a bar, in proportion to the goal.
func picture(rows []row) string {
	var bars strings.Builder
	y := top
	for _, r := range rows {
		if r.goal <= 0 {
			continue
		}
		color := "#2da44e"
		if r.value > r.goal {
			color = "#bf8700"
		}
		length := min(r.value/r.goal*scale, longest)
		fmt.Fprintf(&bars, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", barsAt-10, y+14, html.EscapeString(r.what))
		fmt.Fprintf(&bars, `<rect x="%d" y="%d" width="%.1f" height="16" fill="%s"/>`+"\n", barsAt, y+2, length, color)
		fmt.Fprintf(&bars, `<text x="%.1f" y="%d">%s</text>`+"\n", barsAt+length+6, y+14, html.EscapeString(r.amount()))
		y += lineHeight
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="Figures against their goals">
<rect width="100%%" height="100%%" fill="#ffffff"/>
<g font-family="sans-serif" font-size="13" fill="#1f2328">
<text x="%d" y="24" text-anchor="middle">goal</text>
%s<line x1="%d" y1="30" x2="%d" y2="%d" stroke="#1f2328" stroke-dasharray="4 3"/>
</g>
</svg>
`, width, y+16, width, y+16, barsAt+scale, &bars, barsAt+scale, barsAt+scale, y+4)
}
