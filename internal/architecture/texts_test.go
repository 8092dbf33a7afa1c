package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider"
)

// voiced is one text that somebody reads.
type voiced struct {
	place string // file:line, or "schema " and the path of an attribute
	kind  string // prose, comment, the kind of a described object, or what takes a message: fmt.Errorf, Summary, return
	text  string // on one line; an argument within it is …
}

// Kinds of texts.
const (
	prose   = "prose"
	comment = "comment"
)

// collect returns every text of the repository and of the served schema, by place.
func collect(t *testing.T) []voiced {
	t.Helper()
	texts := described(t)
	root, files := tracked(t)
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		switch ext := filepath.Ext(name); {
		case strings.HasPrefix(name, "docs/"), strings.Contains(name, "/testdata/"), strings.Contains(name, "/facts/"):
			// made from the schema and templates, or recorded
		case strings.HasSuffix(name, "_test.go"), generated.Match(data):
		case ext == ".go":
			texts = append(texts, spoken(t, name, data)...)
		case ext == ".md", ext == ".tmpl":
			texts = append(texts, paragraphs(name, string(data))...)
		case ext == ".tf", ext == ".hcl", ext == ".sh", ext == ".py", ext == ".yml", filepath.Base(name) == "GNUmakefile":
			texts = append(texts, remarks(name, string(data))...)
		}
	}
	return texts
}

// line is the place of a text in a file.
func line(file string, number int) string { return file + ":" + strconv.Itoa(number) }

// flat puts a text on one line.
func flat(text string) string { return strings.Join(strings.Fields(text), " ") }

// spoken returns the comments and messages of a Go file. A message is a string of at least
// two words; what a call, a variable or another argument adds to it is ….
func spoken(t *testing.T, name string, data []byte) []voiced {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var texts []voiced
	add := func(pos token.Pos, kind, text string) {
		texts = append(texts, voiced{line(name, fset.Position(pos).Line), kind, flat(text)})
	}
	for _, group := range file.Comments {
		if group.Text() != "" {
			add(group.Pos(), comment, group.Text())
		}
	}
	messages(file, "", add)
	slices.SortStableFunc(texts, func(a, b voiced) int { return lineOf(a) - lineOf(b) })
	return texts
}

func lineOf(t voiced) int {
	_, number, _ := strings.Cut(t.place, ":")
	n, _ := strconv.Atoi(number) // line has made it
	return n
}

// messages adds what is said below node, with what takes it.
func messages(node ast.Node, taker string, add func(token.Pos, string, string)) {
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field: // its tag is no text
			messages(n.Type, taker, add)
			return false
		case *ast.CallExpr:
			name := called(n.Fun) // oneOf takes the words of another program
			if strings.HasPrefix(name, "regexp.") || name == "oneOf" {
				return false
			}
			messages(n.Fun, taker, add)
			for _, argument := range n.Args {
				messages(argument, name, add)
			}
			return false
		case *ast.KeyValueExpr:
			if key := called(n.Key); key != "" {
				messages(n.Value, key, add)
				return false
			}
		case *ast.ReturnStmt:
			for _, result := range n.Results {
				messages(result, "return", add)
			}
			return false
		case *ast.BasicLit, *ast.BinaryExpr:
			text, others := joined(n)
			if strings.Contains(strings.TrimSpace(text), " ") {
				add(n.Pos(), taker, text)
			}
			for _, other := range others {
				messages(other, taker, add)
			}
			return text == "" && len(others) == 0
		}
		return true
	})
}

// called names a function or a key.
func called(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		if of := called(e.X); of != "" {
			return of + "." + e.Sel.Name
		}
		return e.Sel.Name
	case *ast.IndexExpr:
		return called(e.X)
	}
	return ""
}

// joined returns the text that a literal is or a sum with literals makes, and the
// summands that aren't literals. It is nothing for any other expression.
func joined(n ast.Node) (text string, others []ast.Expr) {
	switch n := n.(type) {
	case *ast.BasicLit:
		if n.Kind == token.STRING {
			text, _ = strconv.Unquote(n.Value) // the parser has read it
		}
	case *ast.BinaryExpr:
		if n.Op != token.ADD {
			return "", nil
		}
		for _, side := range []ast.Expr{n.X, n.Y} {
			part, rest := joined(side)
			if part == "" && rest == nil {
				part, rest = "…", []ast.Expr{side}
			}
			text += part
			others = append(others, rest...)
		}
		if strings.Trim(text, "…") == "" {
			return "", nil
		}
	}
	return text, others
}

// paragraphs returns the paragraphs, rows and list items of a Markdown file. The table of words
// itself is left out, because its second column is what nobody writes.
func paragraphs(name, text string) []voiced {
	var texts []voiced
	var lines []string
	start := 0
	flush := func() {
		if joint := flat(strings.Join(lines, " ")); joint != "" {
			texts = append(texts, voiced{line(name, start), prose, joint})
		}
		lines = nil
	}
	table := false
	for i, l := range strings.Split(text, "\n") {
		table = table && strings.HasPrefix(l, "|") || l == "| write | not |"
		if table {
			continue
		}
		trimmed := strings.TrimSpace(l)
		if trimmed == "" || item.MatchString(trimmed) {
			flush()
		}
		if lines == nil {
			start = i + 1
		}
		lines = append(lines, trimmed)
	}
	flush()
	return texts
}

// item begins a row, a list item or a heading of Markdown.
var item = regexp.MustCompile("^(?:[-*|#]|\\d+\\.|```)")

var (
	remark = regexp.MustCompile(`^\s*#+ (.*)$`)
	field  = regexp.MustCompile(`^\s*(description|error_message|summary|detail|value)\s*[=:]\s*"(.* .*)"`)
	prints = regexp.MustCompile(`\b(echo|printf|print|raise|die|say)\b.*["'](.* .*)["']`)
)

// remarks returns the comments and messages of an HCL file, a script or a makefile.
func remarks(name, text string) []voiced {
	var texts []voiced
	var lines []string
	flush := func(next int) {
		if lines != nil {
			texts = append(texts, voiced{line(name, next-len(lines)), comment, flat(strings.Join(lines, " "))})
		}
		lines = nil
	}
	all := strings.Split(text, "\n")
	for i, l := range all {
		if match := remark.FindStringSubmatch(l); match != nil {
			lines = append(lines, match[1])
			continue
		}
		flush(i + 1)
		if match := field.FindStringSubmatch(l); match != nil {
			texts = append(texts, voiced{line(name, i+1), match[1], match[2]})
		} else if match := prints.FindStringSubmatch(l); match != nil {
			texts = append(texts, voiced{line(name, i+1), match[1], match[2]})
		}
	}
	flush(len(all) + 1)
	return texts
}

// described returns the descriptions of the schema that the provider serves.
func described(t *testing.T) []voiced {
	t.Helper()
	server, err := providerserver.NewProtocol6WithError(provider.New("test"))()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := server.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var texts []voiced
	add := func(path, kind string, descriptions ...string) {
		for _, text := range descriptions {
			if text != "" {
				texts = append(texts, voiced{"schema " + path, kind, flat(text)})
			}
		}
	}
	var attributes func(path, kind string, all []*tfprotov6.SchemaAttribute)
	attributes = func(path, kind string, all []*tfprotov6.SchemaAttribute) {
		for _, a := range all {
			add(path+"."+a.Name, kind, a.Description, a.DeprecationMessage)
			if a.NestedType != nil {
				attributes(path+"."+a.Name, kind, a.NestedType.Attributes)
			}
		}
	}
	objects := func(kind string, schemas map[string]*tfprotov6.Schema) {
		for _, name := range slices.Sorted(maps.Keys(schemas)) {
			add(name, kind, schemas[name].Block.Description)
			attributes(name, kind, schemas[name].Block.Attributes)
		}
	}
	objects("provider", map[string]*tfprotov6.Schema{"shopper": schema.Provider})
	objects("resource", schema.ResourceSchemas)
	objects("data source", schema.DataSourceSchemas)
	objects("ephemeral resource", schema.EphemeralResourceSchemas)
	objects("list resource", schema.ListResourceSchemas)
	actions := map[string]*tfprotov6.Schema{}
	for name, action := range schema.ActionSchemas {
		actions[name] = action.Schema
	}
	objects("action", actions)
	for _, name := range slices.Sorted(maps.Keys(schema.Functions)) {
		f := schema.Functions[name]
		add(name, "function", f.Summary, f.Description)
		for _, p := range f.Parameters {
			add(name+"."+p.Name, "function", p.Description)
		}
	}
	return texts
}
