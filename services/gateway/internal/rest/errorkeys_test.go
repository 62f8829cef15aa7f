package rest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	errorsProto  = "../../../../proto/payments/errors/v1/errors.proto"
	reasonPrefix = "ErrorReason_ERROR_REASON_"
	// gatewayReasonsMin begins the numbers of the reasons that the facade alone answers with.
	gatewayReasonsMin = 900
)

// documentedReason is what errors.proto says of the metadata of a reason.
type documentedReason struct {
	number             int
	required, optional []string
}

var (
	keysLine    = regexp.MustCompile(`^\s*// Metadata: (.+)\.$`)
	keyWritten  = regexp.MustCompile("^`([a-z_]+)`( \\(optional\\))?$")
	reasonValue = regexp.MustCompile(`^\s*ERROR_REASON_(\w+) = (\d+);$`)
)

// documented reads the keys of every reason off the comments of errors.proto.
func documented(t *testing.T) map[string]documentedReason {
	t.Helper()
	text, err := os.ReadFile(errorsProto)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]documentedReason{}
	var reason documentedReason
	for _, line := range strings.Split(string(text), "\n") {
		if keys := keysLine.FindStringSubmatch(line); keys != nil && keys[1] != "none" {
			for _, written := range strings.Split(keys[1], ", ") {
				key := keyWritten.FindStringSubmatch(written)
				switch {
				case key == nil:
					t.Fatalf("%s: %q is no key", errorsProto, written)
				case key[2] == "":
					reason.required = append(reason.required, key[1])
				default:
					reason.optional = append(reason.optional, key[1])
				}
			}
		}
		if value := reasonValue.FindStringSubmatch(line); value != nil {
			reason.number, _ = strconv.Atoi(value[2])
			found[value[1]], reason = reason, documentedReason{}
		}
	}
	return found
}

// answered is one call of fault.
type answered struct {
	place, reason string
	keys          []string
}

// answeredIn is every call of fault in some files; one whose reason or keys are not written out is a fault of the code, as
// is an ErrorInfo that is made elsewhere.
func answeredIn(files *token.FileSet, parsed map[string]*ast.File) (found []answered, faults []string) {
	for _, file := range parsed {
		ast.Inspect(file, func(node ast.Node) bool {
			if function, ok := node.(*ast.FuncDecl); ok && function.Name.Name == "fault" {
				return false
			}
			if literal, ok := node.(*ast.CompositeLit); ok {
				if kind, ok := literal.Type.(*ast.SelectorExpr); ok && kind.Sel.Name == "ErrorInfo" {
					faults = append(faults, files.Position(literal.Pos()).String()+": use fault")
				}
			}
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			if name, ok := call.Fun.(*ast.Ident); !ok || name.Name != "fault" {
				return true
			}
			place := files.Position(call.Pos()).String()
			reason, read := call.Args[1].(*ast.SelectorExpr)
			if !read || !strings.HasPrefix(reason.Sel.Name, reasonPrefix) {
				faults = append(faults, place+": the reason is not written out")
				return true
			}
			keys, read := keysOf(call.Args[3])
			if !read {
				faults = append(faults, place+": the keys are not written out")
				return true
			}
			found = append(found, answered{place, strings.TrimPrefix(reason.Sel.Name, reasonPrefix), keys})
			return true
		})
	}
	return found, faults
}

// keysOf is the keys of a map that is written out; nil has none.
func keysOf(argument ast.Expr) (keys []string, read bool) {
	if name, ok := argument.(*ast.Ident); ok {
		return nil, name.Name == "nil"
	}
	literal, ok := argument.(*ast.CompositeLit)
	if !ok {
		return nil, false
	}
	for _, element := range literal.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			return nil, false
		}
		key, ok := pair.Key.(*ast.BasicLit)
		if !ok {
			return nil, false
		}
		text, err := strconv.Unquote(key.Value)
		if err != nil {
			return nil, false
		}
		keys = append(keys, text)
	}
	return keys, true
}

// misfits compares what is answered with what is documented.
func misfits(found []answered, documented map[string]documentedReason) (faults []string) {
	sent := map[string][]string{}
	for _, one := range found {
		reason := documented[one.reason]
		sent[one.reason] = append(sent[one.reason], one.keys...)
		for _, key := range one.keys {
			if !slices.Contains(reason.required, key) && !slices.Contains(reason.optional, key) {
				faults = append(faults, fmt.Sprintf("%s: %s has no key %s", one.place, one.reason, key))
			}
		}
		for _, key := range reason.required {
			if !slices.Contains(one.keys, key) {
				faults = append(faults, fmt.Sprintf("%s: %s needs key %s", one.place, one.reason, key))
			}
		}
	}
	for name, reason := range documented {
		if reason.number < gatewayReasonsMin {
			continue // the services may send the rest
		}
		for _, key := range append(reason.required, reason.optional...) {
			if !slices.Contains(sent[name], key) {
				faults = append(faults, fmt.Sprintf("%s: nothing sends key %s", name, key))
			}
		}
	}
	return faults
}

// Every error of the facade's own has the keys that errors.proto says.
func TestKeysOfErrorsAreThoseOfTheProto(t *testing.T) {
	files := token.NewFileSet()
	own := func(info fs.FileInfo) bool { return !strings.HasSuffix(info.Name(), "_test.go") }
	packages, err := parser.ParseDir(files, ".", own, 0)
	if err != nil {
		t.Fatal(err)
	}
	found, faults := answeredIn(files, packages["rest"].Files)
	if len(found) < 20 {
		t.Errorf("only %d errors found", len(found))
	}
	for _, fault := range append(faults, misfits(found, documented(t))...) {
		t.Error(fault)
	}
}

// A key too many, one too few, and ones that nobody could read are told.
func TestKeysThatAreNotDocumentedAreNoticed(t *testing.T) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "a.go", `package rest
var _ = fault(3, errorsv1.ErrorReason_ERROR_REASON_A, "", map[string]string{"a": "", "b": ""})
var _ = fault(3, errorsv1.ErrorReason_ERROR_REASON_A, "", nil)
var _ = fault(3, errorsv1.ErrorReason_ERROR_REASON_A, "", called)
var _ = fault(3, reason, "", nil)
var _ = &errdetails.ErrorInfo{Reason: "A"}
`, 0)
	if err != nil {
		t.Fatal(err)
	}
	found, faults := answeredIn(files, map[string]*ast.File{"a.go": file})
	faults = append(faults, misfits(found, map[string]documentedReason{
		"A": {number: 1, required: []string{"a"}, optional: []string{"c"}},
		"Z": {number: gatewayReasonsMin, optional: []string{"z"}},
	})...)
	want := []string{
		"a.go:4:9: the keys are not written out",
		"a.go:5:9: the reason is not written out",
		"a.go:6:10: use fault",
		"a.go:2:9: A has no key b",
		"a.go:3:9: A needs key a",
		"Z: nothing sends key z",
	}
	if !slices.Equal(faults, want) {
		t.Errorf("got %q", faults)
	}
}
