package rest

import (
	"context"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"tollmesh.dev/gateway/internal/contract"
	"tollmesh.dev/gateway/internal/docs"
	"tollmesh.dev/gen/go/buf/validate"
	accessv1 "tollmesh.dev/gen/go/payments/access/v1"
	agreementsv1 "tollmesh.dev/gen/go/payments/agreements/v1"
	billingv1 "tollmesh.dev/gen/go/payments/billing/v1"
	contractsv1 "tollmesh.dev/gen/go/payments/contracts/v1"
	eventsv1 "tollmesh.dev/gen/go/payments/events/v1"
	ledgerv1 "tollmesh.dev/gen/go/payments/ledger/v1"
	meteringv1 "tollmesh.dev/gen/go/payments/metering/v1"
	orchestrationv1 "tollmesh.dev/gen/go/payments/orchestration/v1"
	ordersv1 "tollmesh.dev/gen/go/payments/orders/v1"
	pricingv1 "tollmesh.dev/gen/go/payments/pricing/v1"
	settlementv1 "tollmesh.dev/gen/go/payments/settlement/v1"
)

// registrations add each service's routes. A test compares them with the schemas. The imports also
// link every payload of an event, without which its JSON could not be written.
var registrations = []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
	accessv1.RegisterAccessServiceHandler,
	agreementsv1.RegisterAgreementServiceHandler,
	billingv1.RegisterChargeServiceHandler,
	contractsv1.RegisterContractMonitorServiceHandler,
	eventsv1.RegisterEventServiceHandler,
	ledgerv1.RegisterLedgerServiceHandler,
	meteringv1.RegisterGuardrailServiceHandler,
	meteringv1.RegisterMeteringServiceHandler,
	orchestrationv1.RegisterMerchantConfigServiceHandler,
	orchestrationv1.RegisterPaymentServiceHandler,
	ordersv1.RegisterOrderServiceHandler,
	ordersv1.RegisterCreditServiceHandler,
	pricingv1.RegisterCatalogServiceHandler,
	pricingv1.RegisterPricingServiceHandler,
	settlementv1.RegisterPayoutServiceHandler,
	settlementv1.RegisterSettlementServiceHandler,
}

// rawRoute is a route whose body travels untouched, as `POST /v1/payments`.
type rawRoute struct {
	verb     string
	template string
	paths    *regexp.Regexp
	bytesMax int64
	// hook routes take what a third party sends, headers and all.
	hook bool
}

func rawRoutes() []rawRoute {
	var routes []rawRoute
	eachRule(func(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		field := contract.RawField(method.Input())
		if path := rule.GetPost(); path != "" && rule.GetBody() != "" && field != nil {
			hook := contract.HookHeaders(method.Input()) != nil
			routes = append(routes, rawRoute{http.MethodPost, path, pathsOf(path), bytesMax(field), hook})
		}
	})
	return routes
}

// rawRoute is the route of a call, or nil for one whose body is read here.
func (f *facade) rawRoute(verb, path string) *rawRoute {
	for i := range f.rawRoutes {
		if route := &f.rawRoutes[i]; route.verb == verb && route.paths.MatchString(path) {
			return route
		}
	}
	return nil
}

// bytesMax is what a field's rule lets it hold; the most that there is where it has none.
func bytesMax(field protoreflect.FieldDescriptor) int64 {
	rules, ok := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
	if limit := rules.GetBytes().GetMaxLen(); ok && limit > 0 && limit < math.MaxInt64 {
		return int64(limit)
	}
	return math.MaxInt64
}

// eachRule visits every HTTP rule of our schemas.
func eachRule(visit func(protoreflect.MethodDescriptor, *annotations.HttpRule)) {
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				method := methods.Get(j)
				rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
				if !ok || rule == nil {
					continue
				}
				visit(method, rule)
				for _, more := range rule.GetAdditionalBindings() {
					visit(method, more)
				}
			}
		}
		return true
	})
}

// pathVariable is a `{charge_id}` in the path of an HTTP rule; it stands for one segment.
var pathVariable = regexp.MustCompile(`\{[^}]*\}`)

// pathsOf matches the paths of a template.
func pathsOf(template string) *regexp.Regexp {
	parts := pathVariable.Split(template, -1)
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile("^" + strings.Join(parts, "[^/]+") + "$")
}

// allowedMethods are the HTTP methods that a path answers to, for the Allow header of a 405. Where a path names an action
// (`…/{endpoint_id}:test`), they are those of the action: read as an id, `…/x:test` would be another resource's.
func allowedMethods(path string) []string {
	if _, ofDocs := docs.Files[path]; ofDocs || path == livePath || path == readyPath || path == descriptionPath {
		return []string{http.MethodGet, http.MethodHead}
	}
	var ofActions, ofResources []string
	eachRule(func(_ protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		method, template := methodAndPath(rule)
		parts := pathVariable.Split(template, -1)
		isAction := len(parts) > 1 && strings.HasPrefix(parts[len(parts)-1], ":")
		if !pathsOf(template).MatchString(path) {
			return
		}
		if isAction {
			ofActions = append(ofActions, method)
		} else {
			ofResources = append(ofResources, method)
		}
	})
	allowed := ofResources
	if len(ofActions) > 0 {
		allowed = ofActions
	}
	slices.Sort(allowed)
	return withHead(slices.Compact(allowed))
}

// methodAndPath is what an HTTP rule binds an RPC to.
func methodAndPath(rule *annotations.HttpRule) (string, string) {
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, pattern.Get
	case *annotations.HttpRule_Post:
		return http.MethodPost, pattern.Post
	case *annotations.HttpRule_Put:
		return http.MethodPut, pattern.Put
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, pattern.Patch
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, pattern.Delete
	case *annotations.HttpRule_Custom:
		return pattern.Custom.GetKind(), pattern.Custom.GetPath()
	}
	return "", ""
}
