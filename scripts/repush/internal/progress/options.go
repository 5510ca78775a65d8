package progress

import (
	"cmp"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"
)

// Options say what is written to.
type Options struct {
	Terminal bool             // it understands \r and the escape that erases
	Width    func() int       // a terminal's columns, asked at each redraw; nil or not above 0: 80
	Color    bool             // SGR colours may be used
	Unicode  bool             // the bar may be of more than # and -
	Now      func() time.Time // nil: time.Now
}

// Detect returns the Options for w, with the environment that getenv reads.
//
//   - A terminal is an *os.File that is one, unless TERM is dumb; not on Windows,
//     where escapes have to be switched on first (SetConsoleMode).
//   - NO_COLOR that is not empty takes the colours away (https://no-color.org).
//   - The locale is the first of LC_ALL, LC_CTYPE and LANG that is not empty
//     (POSIX.1-2017, Base Definitions 8.2).
//   - COLUMNS is the width of a terminal that does not know its own.
func Detect(w io.Writer, getenv func(string) string) Options {
	locale := strings.ToUpper(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	o := Options{Unicode: strings.Contains(strings.ReplaceAll(locale, "-", ""), "UTF8")}
	file, ok := w.(*os.File)
	if !ok || runtime.GOOS == "windows" || getenv("TERM") == "dumb" || !term.IsTerminal(int(file.Fd())) {
		return o
	}
	o.Terminal, o.Color = true, getenv("NO_COLOR") == ""
	o.Width = func() int {
		columns, _, _ := term.GetSize(int(file.Fd()))
		if columns <= 0 {
			columns, _ = strconv.Atoi(getenv("COLUMNS"))
		}
		return columns
	}
	return o
}
