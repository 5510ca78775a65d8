package functions_test

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// terraform evaluates one folder of files as far as that goes without a cloud:
// what only the cloud knows is "${its address}".
type terraform struct {
	allowed map[string]map[string]any
	files   map[string]string
	inputs  map[string]cty.Value // of the module in the folder ".", beside what the example gives
	report  *[]string            // what is wrong with the files

	folder    string
	variables map[string]*hclsyntax.Block
	outputs   map[string]*hclsyntax.Block
	items     map[string]*item // locals, data, resources and modules, by address
	used      map[string]bool
	values    map[string]map[string]cty.Value // by root name; resources by type
	known     *hcl.EvalContext                // what values mean to an expression; nil when they changed
	resources map[string][]map[string]any     // by type: every instance as plain data
	child     *terraform
}

// item is something that others refer to.
type item struct {
	root, name string
	node       hclsyntax.Node
	evaluate   func() cty.Value
}

func (m *terraform) wrong(where, format string, args ...any) {
	*m.report = append(*m.report, path.Join(m.folder, where)+": "+fmt.Sprintf(format, args...))
}

func (m *terraform) diagnose(where string, diags hcl.Diagnostics) {
	for _, d := range diags {
		m.wrong(where, "%s", d.Error())
	}
}

// load reads a folder with the values of its variables.
func (m *terraform) load(folder string, given map[string]cty.Value) {
	m.folder, m.used = folder, make(map[string]bool)
	m.variables, m.outputs, m.items = make(map[string]*hclsyntax.Block), make(map[string]*hclsyntax.Block), make(map[string]*item)
	m.values = map[string]map[string]cty.Value{"var": {}, "local": {}, "data": {}, "module": {},
		"path": {"module": cty.StringVal("${path.module}")}}
	m.resources = make(map[string][]map[string]any)
	found := 0
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		if path.Dir(name) != folder {
			continue
		}
		found++
		file, diags := hclsyntax.ParseConfig([]byte(m.files[name]), name, hcl.InitialPos)
		m.diagnose(name, diags)
		if !diags.HasErrors() {
			m.declare(file.Body.(*hclsyntax.Body))
		}
	}
	if found == 0 {
		m.wrong("", "no files")
	}
	m.giveVariables(given)
	m.evaluateAll()
	for _, o := range m.outputs {
		m.references(o.Body)
		if a := o.Body.Attributes["value"]; a != nil {
			_, diags := a.Expr.Value(m.context(nil))
			m.diagnose("output."+o.Labels[0], diags)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.variables)) {
		if !m.used["var."+name] {
			m.wrong("var."+name, "is declared and never used")
		}
	}
}

func (m *terraform) declare(body *hclsyntax.Body) {
	for _, a := range body.Attributes {
		m.wrong(a.Name, "an argument outside of every block")
	}
	for _, b := range body.Blocks {
		labels := strings.Join(b.Labels, ".")
		switch b.Type {
		case "terraform", "provider":
			m.names(b.Type, b.Body, m.allowed[b.Type])
			m.references(b.Body)
		case "variable":
			m.names("var."+labels, b.Body, m.allowed["variable"])
			m.variables[labels] = b
		case "output":
			m.names("output."+labels, b.Body, m.allowed["output"])
			m.outputs[labels] = b
		case "locals":
			for name, a := range b.Body.Attributes {
				m.add(&item{root: "local", name: name, node: a.Expr, evaluate: func() cty.Value {
					v, diags := a.Expr.Value(m.context(nil))
					m.diagnose("local."+name, diags)
					return v
				}})
			}
		case "resource":
			m.add(&item{root: b.Labels[0], name: b.Labels[1], node: b.Body, evaluate: func() cty.Value { return m.resource(labels, b) }})
		case "data":
			m.add(&item{root: "data", name: b.Labels[0], node: b.Body, evaluate: func() cty.Value {
				return cty.ObjectVal(map[string]cty.Value{b.Labels[1]: m.resource("data."+labels, b)})
			}})
		case "module":
			m.add(&item{root: "module", name: labels, node: b.Body, evaluate: func() cty.Value { return m.module(b) }})
		default:
			m.wrong(b.Type, "not a block of the language")
		}
	}
}

func (m *terraform) add(i *item) {
	address := i.root + "." + i.name
	if m.items[address] != nil {
		m.wrong(address, "is declared twice")
	}
	m.items[address] = i
}

// references reports what a node refers to and nobody declares, and returns the
// addresses of the items it needs.
func (m *terraform) references(node hclsyntax.Node) (needs []string) {
	hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		e, is := n.(*hclsyntax.ScopeTraversalExpr)
		if !is || len(e.Traversal) < 2 {
			return nil
		}
		step, is := e.Traversal[1].(hcl.TraverseAttr)
		root := e.Traversal.RootName()
		if !is || !slices.Contains([]string{"var", "local", "data", "module"}, root) && !strings.HasPrefix(root, "alicloud_") {
			return nil // of a for expression, each or count
		}
		address := root + "." + step.Name
		m.used[address] = true
		switch {
		case root == "var" && m.variables[step.Name] == nil, root != "var" && m.items[address] == nil:
			m.wrong(e.StartRange().String(), "%s is declared nowhere", address)
		case root != "var":
			needs = append(needs, address)
		}
		return nil
	})
	return needs
}

// evaluateAll evaluates what others need first.
func (m *terraform) evaluateAll() {
	waiting := make(map[string][]string)
	for _, address := range slices.Sorted(maps.Keys(m.items)) {
		waiting[address] = m.references(m.items[address].node)
	}
	for len(waiting) > 0 {
		before := len(waiting)
		for _, address := range slices.Sorted(maps.Keys(waiting)) {
			if slices.ContainsFunc(waiting[address], func(need string) bool { _, later := waiting[need]; return later || need == address }) {
				continue
			}
			i := m.items[address]
			if m.values[i.root] == nil {
				m.values[i.root] = make(map[string]cty.Value)
			}
			m.values[i.root][i.name] = i.evaluate()
			m.known = nil
			delete(waiting, address)
		}
		if len(waiting) == before {
			m.wrong(strings.Join(slices.Sorted(maps.Keys(waiting)), ", "), "need each other")
			return
		}
	}
}

// context is what an expression may name.
func (m *terraform) context(more map[string]cty.Value) *hcl.EvalContext {
	if m.known == nil {
		m.known = &hcl.EvalContext{Variables: make(map[string]cty.Value), Functions: terraformFunctions}
		for root, values := range m.values {
			m.known.Variables[root] = cty.ObjectVal(values)
		}
	}
	if more == nil {
		return m.known
	}
	ctx := m.known.NewChild()
	ctx.Variables = more
	return ctx
}

// module evaluates the module block of an example.
func (m *terraform) module(b *hclsyntax.Block) cty.Value {
	given := maps.Clone(m.inputs)
	if given == nil {
		given = make(map[string]cty.Value)
	}
	source := ""
	for name, a := range b.Body.Attributes {
		value, diags := a.Expr.Value(m.context(nil))
		m.diagnose("module."+b.Labels[0], diags)
		if name == "source" {
			source = plain(value).(string)
		} else if _, overridden := given[name]; !overridden {
			given[name] = value
		}
	}
	m.child = &terraform{allowed: m.allowed, files: m.files, report: m.report}
	m.child.load(path.Join(m.folder, source), given)
	outputs := make(map[string]cty.Value)
	for name := range m.child.outputs {
		outputs[name] = cty.StringVal("${module." + b.Labels[0] + "." + name + "}")
	}
	return cty.ObjectVal(outputs)
}

// resource evaluates a resource or data block with all its instances.
func (m *terraform) resource(address string, b *hclsyntax.Block) cty.Value {
	kind := b.Labels[0]
	if m.allowed[kind] == nil {
		m.wrong(address, "resource type %s is not in the allow-list", kind)
		return cty.DynamicVal
	}
	instance := func(address string, more map[string]cty.Value) cty.Value {
		ctx := m.context(more)
		m.conditions(address, b.Body, ctx)
		fields := m.body(address, b.Body, m.allowed[kind], ctx, "count", "for_each", "depends_on", "lifecycle")
		m.check(address, fields, m.allowed[kind])
		fields["address"] = address
		m.resources[kind] = append(m.resources[kind], fields)
		return m.attributes(address, fields, m.allowed[kind])
	}
	for _, meta := range b.Body.Blocks {
		if meta.Type == "lifecycle" {
			m.names(address+".lifecycle", meta.Body, m.allowed["lifecycle"])
		}
	}
	if count := b.Body.Attributes["count"]; count != nil {
		n, diags := count.Expr.Value(m.context(nil))
		m.diagnose(address, diags)
		all := []cty.Value{}
		for i := range int(number(plain(n))) {
			all = append(all, instance(fmt.Sprintf("%s[%d]", address, i), map[string]cty.Value{"count": cty.ObjectVal(map[string]cty.Value{"index": cty.NumberIntVal(int64(i))})}))
		}
		return cty.TupleVal(all)
	}
	if each := b.Body.Attributes["for_each"]; each != nil {
		set, diags := each.Expr.Value(m.context(nil))
		m.diagnose(address, diags)
		all := make(map[string]cty.Value)
		if diags.HasErrors() || !set.CanIterateElements() || set.Type().IsTupleType() || set.Type().IsListType() {
			m.wrong(address, "for_each wants a map or a set")
			return cty.ObjectVal(all)
		}
		for key, value := range set.Elements() {
			name := plain(key).(string)
			all[name] = instance(fmt.Sprintf("%s[%q]", address, name), map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(name), "value": value})})
		}
		return cty.ObjectVal(all)
	}
	return instance(address, nil)
}
