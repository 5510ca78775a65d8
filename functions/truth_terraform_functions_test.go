package functions_test

import (
	"net/url"
	"strings"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// terraformFunctions are those that the files call.
var terraformFunctions = map[string]function.Function{
	"alltrue": textFunction(cty.Bool, func(list cty.Value) cty.Value {
		for _, v := range list.Elements() {
			if !v.RawEquals(cty.True) {
				return cty.False
			}
		}
		return cty.True
	}),
	"can": tryfunc.CanFunc, "try": tryfunc.TryFunc, "concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc, "distinct": stdlib.DistinctFunc,
	"filebase64":  textFunction(cty.String, func(name cty.Value) cty.Value { return cty.StringVal("${filebase64(" + name.AsString() + ")}") }),
	"filesha256":  textFunction(cty.String, func(name cty.Value) cty.Value { return cty.StringVal("${filesha256(" + name.AsString() + ")}") }),
	"endswith":    textsFunction(strings.HasSuffix),
	"strcontains": textsFunction(strings.Contains),
	"floor":       stdlib.FloorFunc,
	"join":        stdlib.JoinFunc,
	"jsondecode":  stdlib.JSONDecodeFunc,
	"jsonencode":  stdlib.JSONEncodeFunc,
	"keys":        stdlib.KeysFunc,
	"length":      stdlib.LengthFunc,
	"lower":       stdlib.LowerFunc,
	"merge":       stdlib.MergeFunc,
	"regex":       stdlib.RegexFunc,
	"setunion":    stdlib.SetUnionFunc,
	"substr":      stdlib.SubstrFunc,
	"toset":       stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
	"tostring":    stdlib.MakeToFunc(cty.String),
	"urlencode":   textFunction(cty.String, func(v cty.Value) cty.Value { return cty.StringVal(url.QueryEscape(v.AsString())) }),
	"one": function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for _, v := range args[0].Elements() {
				return v, nil
			}
			return cty.NullVal(cty.DynamicPseudoType), nil
		},
	}),
}

// textFunction is a function of one value.
func textFunction(result cty.Type, f func(cty.Value) cty.Value) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(result),
		Impl:   func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f(args[0]), nil },
	})
}

func textsFunction(f func(text, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}, {Name: "part", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}
