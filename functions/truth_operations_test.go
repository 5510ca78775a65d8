package functions_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// ports are those of the ONS OpenAPI that each function's domain calls.
var ports = map[string][]reflect.Type{
	config.Repush: {reflect.TypeFor[pushing.Pusher](), reflect.TypeFor[pushing.Connections]()},
	config.Plan: {reflect.TypeFor[planning.Pager](), reflect.TypeFor[planning.Finder](), reflect.TypeFor[planning.Watcher](),
		reflect.TypeFor[pushing.Connections]()},
}

// createdBy finds in the code which operations each method and function of the
// adapter leads to: every ons.Create<Operation>Request in it, or in what it names.
func createdBy() (map[string][]string, error) {
	files, err := filepath.Glob("internal/ons/*.go")
	if err != nil {
		return nil, err
	}
	named := make(map[string][]string) // by function: the names in it
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, declaration := range file.Decls {
			f, is := declaration.(*ast.FuncDecl)
			if !is {
				continue
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				if name, is := n.(*ast.Ident); is {
					named[f.Name.Name] = append(named[f.Name.Name], name.Name)
				}
				return true
			})
		}
	}
	created := make(map[string][]string)
	for f := range named {
		seen, next := map[string]bool{f: true}, []string{f}
		for len(next) > 0 {
			for _, name := range named[next[0]] {
				operation, starts := strings.CutPrefix(name, "Create")
				operation, ends := strings.CutSuffix(operation, "Request")
				if starts && ends {
					created[f] = append(created[f], operation)
				} else if !seen[name] {
					seen[name] = true
					next = append(next, name)
				}
			}
			next = next[1:]
		}
	}
	return created, nil
}

// operationsCalled are the operations that a function's ports lead to.
func operationsCalled(function string) ([]string, error) {
	created, err := createdBy()
	if err != nil {
		return nil, err
	}
	var operations []string
	for _, port := range ports[function] {
		for method := range port.Methods() {
			if created[method.Name] == nil {
				err = errors.Join(err, fmt.Errorf("internal/ons: nothing makes a request for %s.%s", port, method.Name))
			}
			operations = append(operations, created[method.Name]...)
		}
	}
	slices.Sort(operations)
	return slices.Compact(operations), err
}

// neededActions are the RAM actions of the operations that a function calls. An
// operation that is not in the table stands for itself, and so is missing from
// every policy.
func neededActions(function string) []string {
	operations, err := operationsCalled(function)
	if err != nil {
		return []string{err.Error()}
	}
	actions := slices.Clone(lookUp)
	for _, operation := range operations {
		if r, known := rights[operation]; known {
			actions = append(actions, r.action)
		} else {
			actions = append(actions, "an entry for "+operation+" in the table of RAM actions")
		}
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

// TestOperationsHaveActions: the table knows every operation of the adapter, and
// a function's port leads to each.
func TestOperationsHaveActions(t *testing.T) {
	t.Parallel()
	created, err := createdBy()
	if err != nil || len(created) == 0 {
		t.Fatalf("found operations %v, error %v", created, err)
	}
	called := make(map[string]bool)
	for function := range ports {
		operations, err := operationsCalled(function)
		if err != nil || len(operations) < 2 {
			t.Errorf("%s calls %v, error %v", function, operations, err)
		}
		for _, operation := range operations {
			called[operation] = true
		}
	}
	for _, operation := range slices.Concat(slices.Collect(maps.Values(created))...) {
		if _, known := rights[operation]; !known || !called[operation] {
			t.Errorf("the code calls %s: in the table of RAM actions: %v; by a port of a function: %v", operation, known, called[operation])
		}
	}
}
